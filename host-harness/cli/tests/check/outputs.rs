//! Forms of the output, and the exit code.

use crate::support::{Folder, changed, place_of};
use crate::{BY_USER, QUICKSTART};

#[test]
fn text_names_the_place_the_path_and_the_way_to_mend_it() {
    let text = changed(QUICKSTART, [("max_tokens: 20", "max_token: 20")]);
    let place = place_of(&text, "max_token: ");
    let (is_well, output) = Folder::new().with("envoy.yaml", &text).run(&["envoy.yaml"]);
    assert!(!is_well);
    let path = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.\
                config.\
                configuration.value.limits[0].token_bucket.max_token";
    let lines: Vec<&str> = output.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(&place)).unwrap_or_else(|| panic!("{output}"));
    assert!(lines[at].starts_with(&format!("{place}: error: expected one of ")), "{output}");
    assert!(lines[at].ends_with(", found an unknown field [configuration]"), "{output}");
    assert_eq!(lines[at + 1], format!("    at {path}"));
    assert_eq!(lines[at + 2], "    rename it to max_tokens");
    assert!(lines.last().unwrap().starts_with("envoy.yaml: 1 listener, 1 cluster, 1 limiter, 1 bridge: "), "{output}");
}

#[test]
fn annotations_name_the_place() {
    let text = changed(QUICKSTART, [("{cluster: redis}", "{cluster: redsi}")]);
    let (is_well, output) = Folder::new().with("envoy.yaml", &text).run(&["--format", "github", "envoy.yaml"]);
    let place = place_of(&text, "redsi");
    let [_, line, column] = place.split(':').collect::<Vec<_>>()[..] else { panic!("{place}") };
    let start =
        format!("::error file=envoy.yaml,line={line},col={column},title=weir check%3A missing-cluster::expected ");
    assert!(!is_well && output.starts_with(&start), "{output}");
}

#[test]
fn strict_fails_on_warnings_and_not_on_notes() {
    let folder = Folder::new()
        .with("warning.yaml", changed(QUICKSTART, [(BY_USER, "- path: {}")]))
        .with("note.yaml", "admin: {}");
    assert!(folder.run(&["warning.yaml"]).0 && !folder.run(&["--strict", "warning.yaml"]).0);
    let (is_well, output) = folder.run(&["--strict", "note.yaml"]);
    assert!(is_well && output.contains(": note: expected a limiter, found none"), "{output}");
    assert!(output.ends_with(": no errors, no limiter\n"), "{output}");
}

#[test]
fn the_page_of_the_command_line_shows_each_format() {
    let page = include_str!("../../../../docs/src/cli.md");
    let (_, section) = page.split_once("### Formats of `weir check`").expect("the section");
    let text = changed(
        QUICKSTART,
        [("redis: {cluster: redis}", "redis: {cluster: redsi}"), ("                failure_policy: FAIL_RELOAD\n", "")],
    );
    let folder = Folder::new().with("envoy.yaml", text);
    let shown = section.split("```text\n").skip(1).filter_map(|block| block.split_once("```"));
    let shown: Vec<&str> = shown.map(|(block, _)| block).take(3).collect();
    let run = |format: &str| folder.run(&["--format", format, "envoy.yaml"]).1;
    assert_eq!(shown, ["text", "json", "github"].map(run));
}
