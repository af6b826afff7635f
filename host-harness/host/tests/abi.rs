//! Host functions of the ABI: returned statuses and values, and refused calls.

mod support;

use hyper::Request;
use support::{Scenario, text};

/// Runs instructions in `proxy_on_request_headers`, and returns the text that they noted.
fn noted(data: &str, instructions: &str) -> String {
    let guest = format!(
        r#"{data}
        (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
          {instructions} (call $reply) (i32.const 1))"#
    );
    let proxy = Scenario { guest: &guest, ..Scenario::default() }.start();
    text(&proxy.send(Request::get("/a/b?c=d").header("X-One", "1").header("x-one", "2"), b""))
}

#[test]
fn pointers_out_of_bounds_are_refused_and_never_followed() {
    let statuses = noted(
        "",
        "(call $note (call $log (i32.const 2) (i32.const -1) (i32.const 8)))
         (call $note (call $log (i32.const 2) (i32.const 0x3ffff8) (i32.const 9)))
         (call $note (call $get_header (i32.const 0) (i32.const -4) (i32.const 100) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $now (i32.const 0x3ffffc)))
         (call $note (call $now (i32.const 0x3ffff8)))
         (call $note (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
         (call $note (call $get_property (i32.const -9) (i32.const 20) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $define_metric (i32.const 0) (i32.const 0) (i32.const 1) (i32.const -1)))",
    );
    assert_eq!(statuses, "66660666");
}

#[test]
fn unknown_kinds_are_bad_arguments() {
    let statuses = noted(
        "",
        "(call $note (call $log (i32.const 9) (i32.const 0) (i32.const 0)))
         (call $note (call $get_header (i32.const 8) (i32.const 0) (i32.const 0) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $get_buffer (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $get_buffer (i32.const 0) (i32.const -1) (i32.const 2) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $define_metric (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 0x708)))
         (call $note (call $continue (i32.const 7)))
         (call $note (call $set_effective_context (i32.const 999)))
         (call $note (call $foreign (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))",
    );
    assert_eq!(statuses, "22202221");
}

#[test]
fn headers_are_read_changed_and_removed() {
    let seen = noted(
        r#"(data (i32.const 0) "x-oneX-NEWvalue")"#,
        "(call $note (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
         (call $note_given)
         (call $note (call $set_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 10) (i32.const 5)))
         (call $note (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
         (call $note_given)
         (call $note (call $remove_header (i32.const 0) (i32.const 0) (i32.const 5)))
         (call $note (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $add_header (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 10) (i32.const 5)))
         (call $note (call $get_header (i32.const 0) (i32.const 5) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
         (call $note_given)",
    );
    assert_eq!(seen, "0100value0100value");
}

#[test]
fn maps_and_buffers_of_a_response_are_closed_before_it_arrives() {
    let statuses = noted(
        r#"(data (i32.const 0) ":status")"#,
        "(call $note (call $get_header (i32.const 2) (i32.const 0) (i32.const 7) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $add_header (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
         (call $note (call $get_pairs (i32.const 2) (i32.const 0x700) (i32.const 0x704)))
         (call $note (i32.load (i32.const 0x704)))
         (call $note (call $get_buffer (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 0x700) (i32.const 0x704)))",
    );
    assert_eq!(statuses, "220011");
}

#[test]
fn malformed_pairs_become_an_empty_map() {
    let statuses = noted(
        r#"(data (i32.const 0) "\01\00\00\00\01\00\00\00\01\00\00\00a\00b\00")
           (data (i32.const 64) "\ff\ff\ff\ff")"#,
        "(call $note (call $set_pairs (i32.const 0) (i32.const 0) (i32.const 16)))
         (call $note (call $get_header (i32.const 0) (i32.const 12) (i32.const 1) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $set_pairs (i32.const 0) (i32.const 0) (i32.const 15)))
         (call $note (call $get_header (i32.const 0) (i32.const 12) (i32.const 1) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $set_pairs (i32.const 0) (i32.const 64) (i32.const 4)))",
    );
    assert_eq!(statuses, "00010");
}

#[test]
fn properties_describe_the_request_and_the_plugin() {
    let property = |path: &str| {
        let data = format!("(data (i32.const 0) \"{}\")", path.replace('.', "\\00"));
        let length = path.len();
        noted(
            &data,
            &format!(
                "(call $note (call $get_property (i32.const 0) (i32.const {length}) (i32.const 0x700) (i32.const 0x704)))
                 (call $note_given)"
            ),
        )
    };
    assert_eq!(property("request.path"), "0/a/b?c=d");
    assert_eq!(property("request.url_path"), "0/a/b");
    assert_eq!(property("request.query"), "0c=d");
    assert_eq!(property("request.method"), "0GET");
    assert_eq!(property("request.host"), "0test");
    assert_eq!(property("request.protocol"), "0HTTP/1.1");
    assert_eq!(property("request.headers.x-one"), "01,2");
    assert_eq!(property("xds.route_name"), "0hello");
    assert_eq!(property("plugin_name"), "0");
    assert_eq!(property("plugin_root_id"), "0guest");
    assert_eq!(property("xds.node.id"), "0here");
    assert!(property("source.address").starts_with("0127.0.0.1:"));
    assert_eq!(property("no.such").chars().next(), Some('1'));
    assert_eq!(property("response.code").chars().next(), Some('1'));
}

#[test]
fn a_property_that_a_filter_sets_can_be_read_again() {
    let seen = noted(
        r#"(data (i32.const 0) "mineyours")"#,
        "(call $note (call $set_property (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5)))
         (call $note (call $get_property (i32.const 0) (i32.const 4) (i32.const 0x700) (i32.const 0x704)))
         (call $note_given)",
    );
    assert_eq!(seen, "00yours");
}

#[test]
fn shared_data_is_written_only_over_the_version_that_was_read() {
    let seen = noted(
        r#"(data (i32.const 0) "keyonetwo")"#,
        "(call $note (call $get_shared (i32.const 0) (i32.const 3) (i32.const 0x700) (i32.const 0x704) (i32.const 0x708)))
         (call $note (call $set_shared (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 3) (i32.const 0)))
         (call $note (call $get_shared (i32.const 0) (i32.const 3) (i32.const 0x700) (i32.const 0x704) (i32.const 0x708)))
         (call $note_given)
         (call $note (call $set_shared (i32.const 0) (i32.const 3) (i32.const 6) (i32.const 3)
                                       (i32.load (i32.const 0x708))))
         (call $note (call $set_shared (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 3)
                                       (i32.load (i32.const 0x708))))
         (call $note (call $get_shared (i32.const 0) (i32.const 3) (i32.const 0x700) (i32.const 0x704) (i32.const 0x708)))
         (call $note_given)",
    );
    assert_eq!(seen, "100one080two");
}

#[test]
fn counters_only_increase_and_gauges_change_both_ways() {
    let seen = noted(
        r#"(data (i32.const 0) "acgh")"#,
        "(call $note (call $define_metric (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 0x708)))
         (call $note (call $increment_metric (i32.load (i32.const 0x708)) (i64.const 3)))
         (call $note (call $increment_metric (i32.load (i32.const 0x708)) (i64.const -1)))
         (call $note (call $get_metric (i32.load (i32.const 0x708)) (i32.const 0x710)))
         (call $note (i32.load (i32.const 0x710)))
         (call $note (call $define_metric (i32.const 1) (i32.const 2) (i32.const 1) (i32.const 0x708)))
         (call $note (call $record_metric (i32.load (i32.const 0x708)) (i64.const 9)))
         (call $note (call $increment_metric (i32.load (i32.const 0x708)) (i64.const -2)))
         (call $note (call $get_metric (i32.load (i32.const 0x708)) (i32.const 0x710)))
         (call $note (i32.load (i32.const 0x710)))
         (call $note (call $define_metric (i32.const 2) (i32.const 3) (i32.const 1) (i32.const 0x708)))
         (call $note (call $record_metric (i32.load (i32.const 0x708)) (i64.const 9)))
         (call $note (call $get_metric (i32.load (i32.const 0x708)) (i32.const 0x710)))
         (call $note (call $record_metric (i32.const 4000) (i64.const 9)))",
    );
    assert_eq!(seen, "002030000700 21".replace(' ', ""));
}

#[test]
fn a_queue_returns_its_items_in_order_and_then_empty() {
    let seen = noted(
        r#"(data (i32.const 0) "queueguestab")"#,
        "(call $note (call $resolve_queue (i32.const 5) (i32.const 5) (i32.const 0) (i32.const 5) (i32.const 0x708)))
         (call $note (call $register_queue (i32.const 0) (i32.const 5) (i32.const 0x708)))
         (call $note (call $resolve_queue (i32.const 5) (i32.const 5) (i32.const 0) (i32.const 5) (i32.const 0x708)))
         (call $note (call $enqueue (i32.load (i32.const 0x708)) (i32.const 10) (i32.const 1)))
         (call $note (call $enqueue (i32.load (i32.const 0x708)) (i32.const 11) (i32.const 1)))
         (call $note (call $dequeue (i32.load (i32.const 0x708)) (i32.const 0x700) (i32.const 0x704)))
         (call $note_given)
         (call $note (call $dequeue (i32.load (i32.const 0x708)) (i32.const 0x700) (i32.const 0x704)))
         (call $note_given)
         (call $note (call $dequeue (i32.load (i32.const 0x708)) (i32.const 0x700) (i32.const 0x704)))
         (call $note (call $dequeue (i32.const 77) (i32.const 0x700) (i32.const 0x704)))",
    );
    assert_eq!(seen, "100000a0b71");
}

#[test]
fn a_struct_configuration_is_passed_as_a_serialised_message() {
    let guest = r#"
        (func (export "proxy_on_configure") (param $context i32) (param $length i32) (result i32)
          (call $note (call $get_buffer (i32.const 7) (i32.const 0) (local.get $length) (i32.const 0x700) (i32.const 0x704)))
          (call $note_given)
          (i32.const 1))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $reply) (i32.const 1))"#;
    let configured = |value: &str| {
        let more = format!("configuration:\n  \"@type\": type.googleapis.com/google.protobuf.{value}");
        let proxy = Scenario { guest, filters: support::filter("guest", &more), ..Scenario::default() }.start();
        proxy.get("/").body().to_vec()
    };
    assert_eq!(configured("Struct\n  value: {a: true}"), b"0\x0a\x07\x0a\x01a\x12\x02\x20\x01");
    assert_eq!(configured("StringValue\n  value: plain"), b"0plain");
}
