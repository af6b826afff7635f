//! Log lines that modules cause: a bounded number of them, and none with control characters.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::support::{Kind, Proxy, Scenario};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        lines().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the embedded host and the collection of log lines.
fn start(guest: &str) -> Proxy {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&Collector).expect("the only logger");
        log::set_max_level(log::LevelFilter::Info);
    });
    let proxy = Scenario { guest, ..Scenario::default() }.start_on(&Kind::Embedded);
    proxy.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Returns the number of lines with a text; tests of this process share the log.
fn count(text: &str) -> usize {
    lines().iter().filter(|line| line.contains(text)).count()
}

/// Returns a guest that runs instructions 10,000 times for a request.
fn flood(data: &str, instructions: &str) -> String {
    format!(
        r#"{data} (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (local i32)
             (loop $again
               (drop {instructions})
               (local.set 3 (i32.add (local.get 3) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get 3) (i32.const 10000))))
             (i32.const 0))"#
    )
}

#[test]
fn warnings_of_the_host_about_a_callback_are_as_limited_as_its_own_lines() {
    let malformed = "(call $set_pairs (i32.const 2) (i32.const 0x10000) (i32.const 3))";
    let proxy = start(&flood("", malformed));
    assert_eq!(proxy.get("/").status().as_u16(), 500, "no status is left");
    let logged = count("malformed pairs");
    assert!((900..=1000).contains(&logged), "{logged}");
}

#[test]
fn warnings_of_the_host_about_streams_are_limited_in_time() {
    let unsendable = "(call $add_header (i32.const 2) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 1))";
    let proxy = start(&flood(r#"(data (i32.const 0) "x\1b\0a")"#, unsendable));
    assert_eq!(proxy.text("/"), "hello");
    let logged = count("cannot be sent");
    // At most 20 in 10 s; a machine that stalls makes them more.
    assert!((1..=1000).contains(&logged), "{logged} of 10,000");
    assert_eq!(count(r"cannot be sent: `x\u{1b}\n`"), logged);
}

#[test]
fn control_characters_of_a_modules_line_are_escaped() {
    let guest = r#"(data (i32.const 0) "forged\0a[error] line \1b[31m\00end")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $log (i32.const 2) (i32.const 0) (i32.const 29))) (i32.const 0))"#;
    let proxy = start(guest);
    assert_eq!(proxy.text("/"), "hello");
    assert_eq!(count(r"forged\n[error] line \u{1b}[31m\u{0}end"), 1, "{:?}", lines());
    assert!(!lines().iter().any(|line| line.contains(char::is_control)), "{:?}", lines());
}
