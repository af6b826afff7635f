//! Target `bridge`: the filter in its role `bridge`, between gRPC messages of a worker and bytes of Redis.
//!
//! Input: two bytes for the lengths of chunks, then the bytes: as gRPC messages to Redis, and as Redis' own.

use std::cell::RefCell;
use std::rc::Rc;

use weir_filter::native::{Action, Buffer, Host, HostError, Level, Vm};
use weir_filter::redis::framing::{DEFAULT_MAX_FRAME, Unframer, frame};

use crate::check_log_line;
use crate::choices::{Choices, cut};

const ROOT: u32 = 1;
const STREAM: u32 = 2;

/// Runs the target.
///
/// # Panics
/// If the bytes that pass to Redis are not the payloads, if bytes pass after an invalid message, or if the messages to the
/// worker do not carry Redis' bytes.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let lengths = [choices.below(64) + 1, choices.below(8) + 1];
    let bytes = choices.rest();
    let whole = to_redis(&[bytes]);
    for lengths in [&lengths[..], &[1]] {
        assert_eq!(to_redis(&cut(bytes, lengths)), whole, "chunks of {lengths:?} change what passes");
        to_worker(&cut(bytes, lengths));
    }
    assert!(whole.len() <= bytes.len());
    let mut framed = Vec::new();
    frame(bytes, DEFAULT_MAX_FRAME, &mut framed);
    assert_eq!(to_redis(&cut(&framed, &lengths)), bytes, "framed bytes pass as they are");
}

/// Passes chunks of a worker's stream. Returns the bytes that reach Redis.
fn to_redis(chunks: &[&[u8]]) -> Vec<u8> {
    let bridge = Bridge::start();
    let (mut unframer, mut expected) = (Unframer::new(), Vec::new());
    let mut passed = Vec::new();
    let mut has_failed = false;
    for chunk in chunks {
        let is_valid = unframer.push(chunk, &mut expected).is_ok();
        let (action, bytes) = bridge.pass(Buffer::RequestBody, chunk);
        has_failed |= !is_valid;
        assert_eq!(action, if has_failed { Action::Pause } else { Action::Continue });
        assert!(!has_failed || bytes.is_empty(), "{} bytes after an invalid message", bytes.len());
        passed.extend(bytes);
    }
    // How much of the last valid message has passed when the next one is found invalid depends on the chunks.
    if has_failed {
        assert!(expected.starts_with(&passed));
        return expected;
    }
    assert_eq!(passed, expected);
    passed
}

/// Passes chunks of Redis' bytes, and reads the messages that reach the worker.
fn to_worker(chunks: &[&[u8]]) {
    let bridge = Bridge::start();
    let mut unframer = Unframer::new();
    for chunk in chunks {
        let (action, message) = bridge.pass(Buffer::ResponseBody, chunk);
        assert_eq!(action, Action::Continue);
        let frames = chunk.len().div_ceil(DEFAULT_MAX_FRAME.get());
        assert_eq!(message.len(), chunk.len() + frames * 5, "messages are full but the last");
        let mut payload = Vec::new();
        assert_eq!(unframer.push(&message, &mut payload), Ok(()));
        assert!(unframer.is_between_messages() && payload == *chunk);
    }
}

struct Bridge {
    vm: Vm,
    body: Rc<Body>,
}

impl Bridge {
    fn start() -> Self {
        let body = Rc::new(Body::default());
        let vm = Vm::new(Rc::clone(&body) as Rc<dyn Host>);
        vm.context_create(ROOT, 0);
        assert!(vm.configure(ROOT, 0), "a bridge needs no configuration");
        vm.context_create(STREAM, ROOT);
        assert_eq!(vm.request_headers(STREAM, false), Action::Continue);
        assert_eq!(vm.response_headers(STREAM, false), Action::Continue);
        Self { vm, body }
    }

    /// Shows bytes of a direction. Returns the action, and what is in their place.
    fn pass(&self, buffer: Buffer, bytes: &[u8]) -> (Action, Vec<u8>) {
        self.body.0.replace(bytes.to_vec());
        let action = match buffer {
            Buffer::RequestBody => self.vm.request_body(STREAM, bytes.len(), false),
            _ => self.vm.response_body(STREAM, bytes.len(), false),
        };
        (action, self.body.0.take())
    }
}

/// Body that a proxy shows in a callback.
#[derive(Default)]
struct Body(RefCell<Vec<u8>>);

impl Host for Body {
    fn log(&self, _level: Level, line: &str) {
        check_log_line(line);
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        (path == ["plugin_root_id"]).then(|| b"bridge".to_vec())
    }

    fn header(&self, _headers: weir_filter::native::Headers, name: &str) -> Option<Vec<u8>> {
        (name == ":path").then(|| b"/weir.Redis/0000000000000007".to_vec())
    }

    fn set_header(&self, _headers: weir_filter::native::Headers, _name: &str, _value: &str) -> Result<(), HostError> {
        Ok(())
    }

    fn buffer(&self, _buffer: Buffer, size: usize) -> Vec<u8> {
        let bytes = self.0.borrow();
        bytes[..size.min(bytes.len())].to_vec()
    }

    fn replace_buffer(&self, _buffer: Buffer, size: usize, bytes: &[u8]) -> Result<(), HostError> {
        let mut body = self.0.borrow_mut();
        let size = size.min(body.len());
        body.splice(..size, bytes.iter().copied());
        Ok(())
    }
}
