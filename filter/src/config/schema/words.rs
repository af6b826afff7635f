//! Schemas of values that the parser describes in words.

use alloc::format;
use alloc::string::String;

use serde_json::{Value, json};

use crate::response::GrpcStatus;
use crate::usage::NAMED;

const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]";
/// Text that is not all white space.
const NOT_BLANK: &str = "[^ \\t\\n\\f\\r]";
const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// The schema of the values that the parser describes as `text`: at least these, and no more than a schema can say.
/// `None` if there is none, or if the words are about other fields.
pub(super) fn schema(text: &str) -> Option<Value> {
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let sized = |min: usize, max: usize, pattern: &str| json!({"type": "string", "minLength": min, "maxLength": max, "pattern": pattern});
    let begins = |start: &str| text.starts_with(start);
    Some(match text {
        "true or false" => json!({"type": "boolean"}),
        "a header's name" => pattern(&format!("^:?{TOKEN}{{1,128}}$")),
        "a cookie's name" => pattern(&format!("^{TOKEN}{{1,128}}$")),
        "1 to 64 letters, digits, underscores and dots" => pattern("^[A-Za-z0-9_.]{1,64}$"),
        "1 to 64 letters, digits, underscores, dots and hyphens" => pattern("^[A-Za-z0-9_.-]{1,64}$"),
        "1 to 256 printable ASCII characters" => pattern("^[ -~]{1,256}$"),
        "the name of an environment variable" => pattern("^[A-Za-z_][A-Za-z0-9_]{0,255}$"),
        "up to 64 bytes without control characters" => sized(0, 64, NO_CONTROLS),
        "a key of 1 to 256 bytes without control characters" => sized(1, 256, NO_CONTROLS),
        "a key of 1 to 256 bytes" => sized(1, 256, "^[^\\u0000]*$"),
        "a line of 1 to 256 bytes" => sized(1, 256, NO_CONTROLS),
        "a host in lower case, without a port" => pattern("^[^A-Z]*$"),
        "a part of a path, without a query string" => sized(1, 1_024, "^[^?#]*$"),
        "a path such as \"/api\", without a query string" => sized(1, 1_024, "^/[^?#]*$"),
        "a fraction from 0 to 1" | "a share from 0 to 1, such as 0.1" => {
            fraction(json!({"type": "number", "minimum": 0, "maximum": 1}))
        }
        "a share from 0.000001 to 1, such as 0.1" => {
            fraction(json!({"type": "number", "minimum": 0.000_001, "maximum": 1}))
        }
        "a number from 0.000001 to 0.999999, such as 0.8" => {
            fraction(json!({"type": "number", "minimum": 0.000_001, "maximum": 0.999_999}))
        }
        "a number from 0 to 1000 with at most 3 decimals" => {
            fraction(json!({"type": "number", "minimum": 0, "maximum": 1_000}))
        }
        "a factor from 0.001 to 1000 with at most 3 decimals" => {
            fraction(json!({"type": "number", "minimum": 0.000_99, "maximum": 1_000.001}))
        }
        "dollars from 0 to 9007199 with at most 6 decimals" => {
            fraction(json!({"type": "number", "minimum": 0, "maximum": 9_007_200}))
        }
        "dollars from 0 to 1099511 with at most 6 decimals" => {
            fraction(json!({"type": "number", "minimum": 0, "maximum": 1_099_512}))
        }
        _ if begins("\"none\" or an object such as") => json!({"enum": ["none"]}),
        _ if begins("a duration such as \"60s\", ") => duration(),
        _ if begins("a method in capitals") => pattern("^[A-Z_-]{1,32}$"),
        _ if begins("a media type such as") => pattern("^[ -~]{1,128}$"),
        _ if begins("a path template such as") => sized(1, 1_024, "^/[^?#]*$"),
        _ if begins("a JSON pointer such as") => sized(0, 256, "^(/([^~/]|~[01])*)*$"),
        _ if begins("a range of addresses such as") => pattern("^[0-9A-Fa-f:.]{1,45}(/[0-9]{1,3})?$"),
        _ if begins("an offset from UTC such as") => pattern("^(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)$"),
        _ if begins("the name of a cluster of the proxy") => {
            json!({"type": "string", "minLength": 1, "maxLength": 256, "not": {"pattern": "://"}})
        }
        _ if begins("a user of 1 to 256 bytes") => sized(1, 256, NOT_BLANK),
        _ if begins("a password of 1 to 4096 bytes") || begins("a token of 1 to 4096 bytes") => {
            sized(1, 4_096, NOT_BLANK)
        }
        _ if begins("a key of 16 to 64 bytes") => sized(1, 4_096, NOT_BLANK),
        _ if begins("the name of a host, such as") => pattern("^[A-Za-z0-9._:\\[\\]-]{1,256}$"),
        _ if begins("a path of 2 to 256 bytes") => pattern("^/[!\"$->@-~]{0,254}[!\"$-.0->@-~]$"),
        _ if begins("\"deny\" or an object such as") => json!({"enum": ["deny"]}),
        _ if begins("a format such as \"auto\"") => json!({ "enum": NAMED.map(|(name, _)| name) }),
        _ if begins("a gRPC status such as") => json!({ "enum": GrpcStatus::NAMES }),
        _ if begins("a header's name, not one of") => {
            json!({"type": "string", "pattern": format!("^{TOKEN}{{1,128}}$"), "not": {"pattern": reserved()}})
        }
        _ => return None,
    })
}

/// A number, or text of one: Envoy passes fractions on as text where its configuration is YAML.
fn fraction(number: Value) -> Value {
    json!({"anyOf": [number, {"type": "string", "pattern": "^ *-?[0-9][0-9.eE+-]* *$"}]})
}

/// `60s`, `0.05s`, or whole numbers with units, the greatest first.
fn duration() -> Value {
    let seconds = "[0-9]+([.][0-9]{1,9})?s";
    let units = "([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?";
    json!({"type": "string", "minLength": 2, "pattern": format!("^({seconds}|{units})$")})
}

/// Pattern of the headers that a mark cannot have, in any case.
fn reserved() -> String {
    let mut pattern = String::from("^(");
    for (place, name) in super::super::on_exceed::RESERVED.iter().enumerate() {
        pattern.push_str(if place == 0 { "" } else { "|" });
        for letter in name.chars() {
            match letter {
                '-' => pattern.push('-'),
                _ => pattern.push_str(&format!("[{}{letter}]", letter.to_ascii_uppercase())),
            }
        }
    }
    pattern + ")$"
}
