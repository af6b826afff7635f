//! Commands and replies of Redis as text.

use std::collections::HashMap;

use weir_filter::limit::Scripts;
use weir_filter::limiter::events_script;
use weir_filter::overrides::{PAGE_SCRIPT, SET_SCRIPT};
use weir_filter::redis::Script;
use weir_host::resp::Resp;

use super::hidden::{HIDDEN, Hidden};

/// Word before the digits of a script without a name.
pub(super) const UNKNOWN: &str = "script";

/// Longest text of a value, in characters.
const LONGEST: usize = 60;
/// Number of items of an array that are shown.
const MOST_ITEMS: usize = 16;

/// Names of scripts by their SHA-1 as hexadecimal digits.
pub(super) struct ScriptNames(HashMap<String, &'static str>);

impl ScriptNames {
    /// Returns the names of Weir's scripts.
    pub(super) fn of_weir() -> Self {
        let mut names = HashMap::new();
        for scripts in [Scripts::new(true), Scripts::new(false)] {
            names.extend(scripts.named().map(|(name, script)| (script.sha1_hex().to_owned(), name)));
        }
        let others = [
            (Script::new(PAGE_SCRIPT), "overrides"),
            (events_script(), "events"),
            (Script::new(SET_SCRIPT), "set_override"),
        ];
        names.extend(others.map(|(script, name)| (script.sha1_hex().to_owned(), name)));
        Self(names)
    }

    fn by_sha1(&self, sha1: &[u8]) -> String {
        let sha1 = String::from_utf8_lossy(sha1).to_ascii_lowercase();
        match self.0.get(&sha1) {
            Some(name) => (*name).to_owned(),
            None => format!("{UNKNOWN} {}", sha1.chars().take(8).collect::<String>()),
        }
    }

    fn by_source(&self, source: &[u8]) -> String {
        let source = String::from_utf8_lossy(source).into_owned();
        let size = source.len();
        format!("{} ({size} bytes of Lua)", self.by_sha1(Script::new(source).sha1_hex().as_bytes()))
    }
}

/// Returns a command as text. Arguments of `AUTH` are hidden.
pub(super) fn command(command: &Resp, scripts: &ScriptNames, hidden: &Hidden) -> String {
    let Resp::Array(words) = command else { return reply(command, hidden) };
    if !words.iter().all(|word| matches!(word, Resp::Bulk(_))) {
        return reply(command, hidden);
    }
    let texts: Vec<&[u8]> = words.iter().map(bytes).collect();
    let name = texts.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default();
    let mut is_secret = name == "AUTH";
    let mut shown = vec![name.clone()];
    for (index, text) in texts.iter().enumerate().skip(1) {
        shown.push(match (name.as_str(), index) {
            _ if is_secret => HIDDEN.to_owned(),
            ("EVALSHA" | "EVALSHA_RO", 1) => scripts.by_sha1(text),
            ("EVAL" | "EVAL_RO", 1) => scripts.by_source(text),
            ("SCRIPT", 2) => scripts.by_source(text),
            _ => word(text, hidden),
        });
        // HELLO 3 AUTH user password
        is_secret |= name == "HELLO" && text.eq_ignore_ascii_case(b"AUTH");
        is_secret |= matches!(name.as_str(), "ACL" | "CONFIG") && index == 1;
    }
    let rest = shown.len().saturating_sub(4 * MOST_ITEMS);
    shown.truncate(4 * MOST_ITEMS);
    if rest > 0 {
        shown.push(format!("… ({rest} more)"));
    }
    shown.join(" ")
}

/// Returns a reply as text.
pub(super) fn reply(reply: &Resp, hidden: &Hidden) -> String {
    match reply {
        Resp::Simple(text) => word(text, hidden),
        Resp::Error(text) => format!("error: {}", unquoted(text, hidden)),
        Resp::Integer(number) => number.to_string(),
        Resp::Bulk(text) => packed(text).unwrap_or_else(|| quoted(text, hidden)),
        Resp::Null => "null".to_owned(),
        Resp::Array(items) => {
            let shown: Vec<String> = items.iter().take(MOST_ITEMS).map(|item| self::reply(item, hidden)).collect();
            let rest = items.len().saturating_sub(MOST_ITEMS);
            let more = if rest > 0 { format!(", … ({rest} more)") } else { String::new() };
            format!("[{}{more}]", shown.join(", "))
        }
    }
}

/// Returns the integers of a binary string, as Weir's scripts reply; `None` for text.
fn packed(bytes: &[u8]) -> Option<String> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let is_text = bytes.iter().all(|byte| !byte.is_ascii_control());
    if is_text || !rest.is_empty() || numbers.len() > MOST_ITEMS {
        return None;
    }
    let numbers: Vec<String> = numbers.iter().map(|number| i64::from_be_bytes(*number).to_string()).collect();
    Some(format!("[{}]", numbers.join(", ")))
}

/// Returns all RESP values in the bytes; `None` if they are anything else.
pub(super) fn values(mut rest: &[u8]) -> Option<Vec<Resp>> {
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (value, length) = Resp::read(rest).ok()??;
        values.push(value);
        rest = rest.get(length..)?;
    }
    (!values.is_empty()).then_some(values)
}

/// Returns bytes in quotes, without hidden values, shortened.
pub(super) fn quoted(bytes: &[u8], hidden: &Hidden) -> String {
    let text = escaped(&hidden.without(bytes));
    let length = text.chars().count();
    if length <= LONGEST {
        return format!("\"{text}\"");
    }
    let start: String = text.chars().take(LONGEST - 10).collect();
    format!("\"{start}…\" ({} bytes)", bytes.len())
}

fn unquoted(bytes: &[u8], hidden: &Hidden) -> String {
    let text = quoted(bytes, hidden);
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map_or(text.clone(), str::to_owned)
}

/// Returns bytes without quotes where they are one plain word.
fn word(bytes: &[u8], hidden: &Hidden) -> String {
    let is_plain = !bytes.is_empty() && bytes.len() <= LONGEST && bytes.iter().all(|byte| byte.is_ascii_graphic());
    if is_plain { unquoted(bytes, hidden) } else { quoted(bytes, hidden) }
}

fn bytes(value: &Resp) -> &[u8] {
    match value {
        Resp::Simple(text) | Resp::Error(text) | Resp::Bulk(text) => text,
        _ => b"",
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                control if control.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(control))),
                other => text.push(other),
            }
        }
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;
    use weir_host::Bootstrap;

    use super::*;

    const EMPTY: &str = r#"{"static_resources": {"listeners": [{"name": "a", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [{"filters": [{"name": "m", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "i", "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}, "http_filters": [{"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}}"#;

    fn hidden() -> Hidden {
        let mut request = HeaderMap::new();
        request.insert("authorization", "Bearer secret-of-alice".parse().unwrap());
        Hidden::of(&Bootstrap::parse(EMPTY, "empty").unwrap(), &[], "/", &request)
    }

    fn shown(wire: &[u8]) -> String {
        let (value, _) = Resp::read(wire).unwrap().unwrap();
        command(&value, &ScriptNames::of_weir(), &hidden())
    }

    fn encoded(words: &[&str]) -> Vec<u8> {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let words: Vec<String> = words.collect();
        format!("*{}\r\n{}", words.len(), words.concat()).into_bytes()
    }

    #[test]
    fn scripts_have_names_and_credentials_are_hidden() {
        let scripts = Scripts::new(false);
        let (_, script) = scripts.named()[1];
        assert_eq!(shown(&encoded(&["EVALSHA", script.sha1_hex(), "0"])), "EVALSHA mixed 0");
        assert_eq!(shown(&encoded(&["evalsha", &"ab".repeat(20), "0"])), "EVALSHA script abababab 0");
        assert_eq!(shown(&encoded(&["EVAL", "return 1", "0"])), "EVAL script e0e1f9fa (8 bytes of Lua) 0");
        assert_eq!(shown(&encoded(&["AUTH", "weir", "p"])), "AUTH ‹hidden› ‹hidden›");
        assert_eq!(shown(&encoded(&["HELLO", "3", "auth", "weir", "p"])), "HELLO 3 auth ‹hidden› ‹hidden›");
        assert_eq!(shown(&encoded(&["GET", "key of secret-of-alice"])), "GET \"key of ‹hidden›\"");
    }

    #[test]
    fn replies_are_short_and_printable() {
        let numbers = [7_i64.to_be_bytes(), (-1_i64).to_be_bytes()].concat();
        let packed = [b"$16\r\n", &numbers[..], b"\r\n"].concat();
        assert_eq!(shown(&packed), "[7, -1]");
        assert_eq!(shown(b"*3\r\n:1\r\n$-1\r\n$2\r\n\xff\n\r\n"), "[1, null, \"\\xff\\n\"]");
        let long = format!("$100\r\n{}\r\n", "x".repeat(100));
        assert_eq!(shown(long.as_bytes()), format!("\"{}…\" (100 bytes)", "x".repeat(50)));
    }
}
