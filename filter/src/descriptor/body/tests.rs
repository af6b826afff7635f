use alloc::sync::Arc;

use proptest::prelude::*;

use super::values::Value;
use super::*;
use crate::descriptor::json_pointer::JsonPointer;

fn pointers(texts: &[&str]) -> Arc<Vec<JsonPointer>> {
    Arc::new(texts.iter().map(|text| JsonPointer::parse(text).unwrap()).collect())
}

/// The body as limits see it that read these pointers, after a scan of pieces of so many bytes.
fn scanned(body: &[u8], texts: &[&str], piece: usize) -> RequestBody {
    let mut scanner = JsonScanner::new(&pointers(texts), u32::MAX);
    body.chunks(piece).for_each(|piece| scanner.push(piece));
    scanner.into_values().into()
}

/// `None` where the body is unreadable.
fn find(body: impl AsRef<[u8]>, pointer: &str) -> Option<Option<String>> {
    let body = body.as_ref();
    let whole = scanned(body, &[pointer], usize::MAX);
    for piece in [1, 2, 3, 7] {
        assert_eq!(format!("{:?}", scanned(body, &[pointer], piece)), format!("{whole:?}"), "pieces of {piece} bytes");
    }
    let pointer = JsonPointer::parse(pointer).unwrap();
    let value = whole.value(&pointer).map(|text| String::from_utf8(text.to_vec()).unwrap());
    (!whole.is_unreadable()).then_some(value)
}

fn found(body: impl AsRef<[u8]>, pointer: &str) -> String {
    find(body, pointer).expect("the body is readable").expect("there is a value")
}

#[track_caller]
fn is_absent(body: &str, pointer: &str) {
    assert_eq!(find(body, pointer), Some(None), "{pointer} in {body}");
}

#[track_caller]
fn is_unreadable(body: impl AsRef<[u8]>, pointer: &str) {
    assert_eq!(find(body, pointer), None);
}

const BODY: &str = r#"{"user": {"id": "alice", "a/b": 1, "m~n": true}, "models": ["small", "large", ["x", {"y": false}]],
    "none": null, "empty": "", "": {"": 4}, "0": [5]}"#;

#[test]
fn a_scalar_is_text() {
    for (pointer, value) in [
        ("/user/id", "alice"),
        ("/user/a~1b", "1"),
        ("/user/m~0n", "true"),
        ("/models/1", "large"),
        ("/models/2/1/y", "false"),
        ("/empty", ""),
        ("//", "4"),
        ("/0/0", "5"),
    ] {
        assert_eq!(found(BODY, pointer), value, "{pointer}");
    }
    for (body, value) in [("\"x\"", "x"), ("7", "7"), (" true ", "true"), ("-1.50", "-1.5")] {
        assert_eq!(found(body, ""), value);
    }
}

#[test]
fn there_is_no_value_where_there_is_no_scalar() {
    for pointer in
        ["", "/user", "/models", "/none", "/nobody", "/models/3", "/models/01", "/models/+1", "/models/-", "/user/id/x"]
    {
        is_absent(BODY, pointer);
    }
    is_absent("null", "");
    is_absent("[]", "/0");
    is_absent("{}", "/0");
}

#[test]
fn whatever_else_is_in_the_body_the_value_is_found() {
    let deep = ["[".repeat(20_000), "]".repeat(20_000)].concat();
    let long = "x".repeat(20_000);
    for other in [
        "1e400",
        "-1e-999999",
        deep.as_str(),
        r#""\ud800""#,
        r#""\"}{][,:\\""#,
        r#"{"user": "mallory", "x": {"user": "mallory"}}"#,
        r#"["user", "mallory", {}, [], "}"]"#,
        "NaN",
        &format!("\"{long}\""),
        &long,
    ] {
        let (before, after) =
            (format!(r#"{{"x": {other}, "user": "alice"}}"#), format!(r#"{{"user":"alice","x":{other}}}"#));
        assert_eq!([found(&before, "/user"), found(&after, "/user")], ["alice", "alice"], "{other:.40}");
    }
    assert_eq!(found(b"{\"x\": \"\xff\xfe\", \"user\": \"alice\"}", "/user"), "alice");
}

#[test]
fn keys_and_values_may_be_written_with_escapes() {
    assert_eq!(found(r#"{"\u0075s\u0065r": "\u0061l\u0069ce"}"#, "/user"), "alice");
    assert_eq!(found(r#"{"a\/b": 1}"#, "/a~1b"), "1");
    assert_eq!(found(r#"{"user": "\ud800"}"#, "/user"), "\u{fffd}");
    assert_eq!(found(b"{\"user\": \"a\xffb\"}", "/user"), "a\u{fffd}b");
    assert_eq!(found("{\"user\": \"a\tb\n\"}", "/user"), "a\tb\n", "control characters are taken as they are");
    is_unreadable(r#"{"user": "\x"}"#, "/user");
    is_unreadable(r#"{"us\er": 1}"#, "/user");
}

#[test]
fn of_members_with_the_same_key_the_last_counts() {
    assert_eq!(found(r#"{"user": "alice", "user": "bob"}"#, "/user"), "bob");
    assert_eq!(found(r#"{"user": "alice", "us\u0065r": "bob"}"#, "/user"), "bob");
    assert_eq!(found(r#"{"user": {"id": 1}, "user": {"id": 2}}"#, "/user/id"), "2");
    for last in ["null", "[1]", "{}", r#""x""#] {
        is_absent(&format!(r#"{{"user": {{"id": 1}}, "user": {last}}}"#), "/user/id");
    }
    is_absent(r#"{"user": "alice", "user": {"id": 1}}"#, "/user");
}

#[test]
fn a_byte_order_mark_is_read_over() {
    assert_eq!(found("\u{feff}{\"user\": \"alice\"}", "/user"), "alice");
    is_unreadable(b"\xef\xbb{\"user\": 1}", "/user");
    is_unreadable("\u{feff}\u{feff}{\"user\": 1}", "/user");
}

#[test]
fn bodies_in_utf_16_are_unreadable() {
    for with_mark in [true, false] {
        let text = if with_mark { "\u{feff}{\"user\": \"alice\"}" } else { "{\"user\": \"alice\"}" };
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        is_unreadable(little, "/user");
        is_unreadable(big, "/user");
    }
}

#[test]
fn a_body_that_is_no_json_is_unreadable() {
    for body in [
        "",
        " ",
        "{",
        "user=alice",
        "user",
        r#"{"user": "alice""#,
        r#"{"user": "alice"]"#,
        r#"{"user": "alice",}"#,
        r#"{"user": "alice" "x": 1}"#,
        r#"{"user" "alice"}"#,
        r#"{"user": }"#,
        "{'user': 'alice'}",
        r#"{user: "alice"}"#,
        r#"{"x": 1, /* */ "user": "alice"}"#,
        r#"{"user": NaN}"#,
        r#"{"user": 1.}"#,
        r#"{"user": "alice", "x": [1, 2}"#,
        "\u{1f}",
    ] {
        is_unreadable(body, "/user");
    }
    for body in ["[1 2]", "[1,]", "[,1]", "[1}"] {
        is_unreadable(body, "/0");
    }
}

#[test]
fn what_follows_the_document_is_not_looked_at() {
    for after in ["{}", "]", "\u{0}", "x"] {
        assert_eq!(found(format!(r#"{{"user": "alice"}}{after}"#), "/user"), "alice", "{after}");
    }
}

#[test]
fn several_values_are_found_in_one_scan() {
    let texts = ["/user/id", "/models/1", "/user", "/none", "/models/0", "/user/a~1b"];
    let body = scanned(BODY.as_bytes(), &texts, 5);
    let values =
        texts.map(|text| body.value(&JsonPointer::parse(text).unwrap()).map(|value| str::from_utf8(value).unwrap()));
    assert_eq!(values, [Some("alice"), Some("large"), None, None, Some("small"), Some("1")]);
}

#[test]
fn pointers_that_are_not_wanted_are_neither_found_nor_missed() {
    let pointers = pointers(&["/a", "/b", "/c"]);
    let mut scanner = JsonScanner::new(&pointers, 0b010);
    scanner.push(br#"{"a": 1, "b": 2, "#);
    assert!(scanner.has_all() && !scanner.is_over());
    let body = RequestBody::from(scanner.into_values_so_far());
    assert_eq!([0, 1, 2].map(|i| body.value(&pointers[i])), [None, Some(&b"2"[..]), None]);
    assert!(!body.is_unreadable() && !body.is_unreadable_at(&pointers[0]));
}

#[test]
fn of_a_body_that_was_cut_what_was_found_counts_and_the_rest_is_unreadable() {
    let (texts, pointers) = (["/a", "/b"], pointers(&["/a", "/b"]));
    let so_far = |body: &str| {
        let mut scanner = JsonScanner::new(&pointers, u32::MAX);
        scanner.push(body.as_bytes());
        RequestBody::from(scanner.into_values_so_far())
    };
    let body = so_far(r#"{"a": 1, "x": "long"#);
    assert_eq!(body.value(&pointers[0]), Some(&b"1"[..]));
    assert!(!body.is_unreadable_at(&pointers[0]) && body.is_unreadable_at(&pointers[1]) && body.is_unreadable());
    assert!(!so_far(r#"{"a": 1} and more"#).is_unreadable(), "{texts:?}");
    assert!(matches!(so_far(r#"{"a": 1, x"#), RequestBody::Unreadable));
}

#[test]
fn a_body_is_read_as_far_as_its_bytes_are_worth() {
    // Members and items cost more than their bytes.
    let many = |one: &str, n: usize| one.repeat(n);
    for (text, many) in [
        ("/b", format!(r#"{{"b": 1, "x": 0, {}"y": 0}}"#, many(r#""c":0,"#, 9_000))),
        ("/b", format!(r#"{{"b": 1, "x": 0, {}"y": 0}}"#, many(r#""":{},"#, 9_000))),
        ("/b/9999999", format!(r#"{{"a": 1, "b": [{}0]}}"#, many("0,", 27_000))),
    ] {
        for piece in [1_000, usize::MAX] {
            let body = scanned(many.as_bytes(), &["/a", text], piece);
            assert!(matches!(body, RequestBody::Json(_)) && body.is_unreadable(), "{many:.40}");
            let is_first = |(_, value): &&(usize, Value)| *value == Value::Text(b"1".to_vec());
            let RequestBody::Json(values) = &body else { panic!("unreadable") };
            assert_eq!(values.values.iter().filter(is_first).count(), 1, "{many:.40}");
        }
    }
    // Of what no pointer leads to, any number is read over; and ordinary bodies are far from the bound.
    for other in [many("\"c\",", 15_000), many("{\"a\": [1, 2]},", 4_000), format!("\"{}\",", many("text ", 13_000))] {
        assert_eq!(found(format!(r#"{{"x": [{other}0], "user": "alice"}}"#), "/user"), "alice", "{other:.20}");
    }
    for one in [r#""some_setting_123": true,"#, "\n    \"some_setting_123\": {\"a\": [1, 2, 3]},"] {
        assert_eq!(found(format!(r#"{{{}"user": "alice"}}"#, many(one, 1_000)), "/user"), "alice", "{one}");
    }
    assert_eq!(
        found(
            format!(r#"{{"messages": [{}{{"role": "user"}}]}}"#, many(r#"{"role": "system"},"#, 2_000)),
            "/messages/2000/role"
        ),
        "user"
    );
}

/// Any JSON, with names and numbers that pointers may lead to.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[ab\"\\\\/\u{e9}]{0,3}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[ab~/01\"\\\\]{0,2}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The same as a parser of all of it, over any document and however it comes.
    #[test]
    fn finds_what_serde_json_finds(json in json(), texts in prop::collection::vec("(/[ab~01/]{0,3}){0,3}", 1..4), piece in 1_usize..9, pretty: bool) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|text| JsonPointer::parse(text).is_some()).collect();
        let written = if pretty { format!("{json:#}") } else { json.to_string() };
        let body = scanned(written.as_bytes(), &texts, piece);
        prop_assert!(!body.is_unreadable(), "{written}");
        for text in texts {
            let expected = match json.pointer(text) {
                Some(serde_json::Value::String(text)) => Some(text.clone()),
                Some(scalar @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => Some(scalar.to_string()),
                _ => None,
            };
            let found = body.value(&JsonPointer::parse(text).unwrap()).map(|value| String::from_utf8(value.to_vec()).unwrap());
            prop_assert_eq!(found, expected, "{} in {}", text, written);
        }
    }

    /// Any body is read without a panic, and alike however it is cut into pieces.
    #[test]
    fn no_body_breaks_it_however_it_comes(
        tokens in prop::collection::vec(prop_oneof![
            "[{}\\[\\],:\"\\\\ ua1e.-]{1,4}", Just("\"a\":".to_owned()), Just("\\u00".to_owned()), Just("\\ud800".to_owned()),
        ], 0..24),
        piece in 1_usize..6,
    ) {
        let body = tokens.concat();
        let texts = ["", "/a", "/0", "/a/0", "/a/a"];
        let [whole, pieces] = [usize::MAX, piece].map(|piece| format!("{:?}", scanned(body.as_bytes(), &texts, piece)));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn no_bytes_and_no_pointer_break_it(bytes: Vec<u8>, text: String, cut: bool) {
        if let Some(pointer) = JsonPointer::parse(&text) {
            let mut scanner = JsonScanner::new(&vec![pointer].into(), 1);
            scanner.push(&bytes);
            let _ = if cut { scanner.into_values_so_far() } else { scanner.into_values() };
        }
    }
}
