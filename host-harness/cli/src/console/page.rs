//! The page: markup, style and scripts in one response, without references to other files.

const MARKUP: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 6] = [
    include_str!("elements.js"),
    include_str!("chart.js"),
    include_str!("override.js"),
    include_str!("bucket.js"),
    include_str!("budgets.js"),
    include_str!("page.js"),
];

/// Content security policy of the page: its own style and scripts, requests to its own origin, and nothing else.
pub(super) fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page, whose style and scripts have this nonce.
pub(super) fn with_nonce(nonce: &str) -> String {
    let script = SCRIPTS.concat();
    MARKUP.replace("{nonce}", nonce).replace("{style}", STYLE).replace("{script}", &script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_refers_to_no_other_file_and_never_parses_markup() {
        let page = with_nonce("0");
        let namespace = page.replace("http://www.w3.org/2000/svg", "");
        for part in ["http:", "https:", "//cdn", "@import", "url(", " src=", "style=\""] {
            assert!(!namespace.contains(part), "{part}");
        }
        for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!page.contains(sink), "{sink}");
        }
        assert!(!page.contains("{nonce}") && !page.contains("{script}") && !page.contains("{style}"));
    }
}
