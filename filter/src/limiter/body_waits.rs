//! Requests held until their bodies are complete, or until a timeout.

use alloc::boxed::Box;

use super::request_id::RequestId;
use super::timers::Timers;
use crate::config::BodyConfig;
use crate::descriptor::{JsonScanner, RequestBody};
use crate::units::Micros;

/// Minimum size of a proxy's buffer for a body: 1 KiB. Once its buffer is full, a proxy passes no more of the body to
/// the filter, without notice.
const LEAST_PROXY_BUFFER: usize = 1_024;
/// Time after the last piece of a body that may fill the proxy's buffer, after which no further piece is expected.
const STALLED: Micros = Micros::from_millis(50);

/// Requests that wait for their bodies.
#[derive(Debug)]
pub struct BodyWaits {
    config: BodyConfig,
    awaited: Timers<Box<BodyWait>>,
}

#[derive(Debug)]
struct BodyWait {
    scanner: JsonScanner,
    /// Bytes received so far.
    size: usize,
    deadline: Micros,
}

impl BodyWaits {
    /// Creates an empty set of waits.
    #[must_use]
    pub fn new(config: &BodyConfig) -> Self {
        Self { config: config.clone(), awaited: Timers::new() }
    }

    /// Adds a request whose body is to be read at the JSON pointers whose bits are set.
    pub fn arrive(&mut self, now: Micros, request: RequestId, pointers: u32) {
        let scanner = JsonScanner::new(self.config.pointers(), pointers).of_bytes(self.config.max_bytes);
        let scanner = scanner.adding(self.config.of_charges() & pointers);
        let deadline = now.plus(self.config.timeout);
        self.awaited.set(deadline, request, Box::new(BodyWait { scanner, size: 0, deadline }));
    }

    /// Whether the request waits for its body.
    #[must_use]
    pub fn awaits(&self, request: RequestId) -> bool {
        self.awaited.contains(request)
    }

    /// Handles the next piece of a body, the last one if `is_whole`. Returns the values of the body once no further
    /// piece is needed; the request is then removed.
    pub fn piece(&mut self, now: Micros, request: RequestId, bytes: &[u8], is_whole: bool) -> Option<RequestBody> {
        let mut awaited = self.awaited.remove(request)?;
        let room = self.config.max_bytes.saturating_sub(awaited.size);
        awaited.size = awaited.size.saturating_add(bytes.len());
        awaited.scanner.measure(bytes);
        awaited.scanner.push(bytes.get(..room).unwrap_or(bytes));
        if awaited.size > self.config.max_bytes {
            return Some(awaited.scanner.into_values_so_far().into());
        }
        if is_whole || awaited.scanner.is_over() {
            return Some(awaited.scanner.into_values().into());
        }
        let may_be_all = awaited.size >= LEAST_PROXY_BUFFER;
        let turn = if may_be_all { awaited.deadline.min(now.plus(STALLED)) } else { awaited.deadline };
        self.awaited.set(turn, request, awaited);
        None
    }

    /// Handles the end of a body without a further piece, and removes the request.
    pub fn end(&mut self, request: RequestId) -> Option<RequestBody> {
        self.awaited.remove(request).map(|awaited| awaited.scanner.into_values().into())
    }

    /// Removes the next request whose wait is over by `now`, and returns it with the values of its body.
    pub fn pop_due(&mut self, now: Micros) -> Option<(RequestId, RequestBody)> {
        loop {
            let (request, awaited) = self.awaited.pop_due(now)?;
            let may_be_all = awaited.size >= LEAST_PROXY_BUFFER;
            if now < awaited.deadline && !awaited.scanner.has_all() {
                self.awaited.set(awaited.deadline, request, awaited);
                continue;
            }
            let values = if may_be_all { awaited.scanner.into_values_so_far() } else { None };
            return Some((request, values.into()));
        }
    }

    /// Time at which [`pop_due`](Self::pop_due) may next return a request.
    #[must_use]
    pub fn next_due(&self) -> Option<Micros> {
        self.awaited.next()
    }

    /// Removes a request that has ended.
    pub fn leave(&mut self, request: RequestId) {
        if self.awaited.contains(request) {
            self.awaited.remove(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::descriptor::JsonPointer;

    const ALICE: RequestId = RequestId(1);
    const BOB: RequestId = RequestId(2);
    const MS: fn(u64) -> Micros = Micros::from_millis;

    /// Bodies of up to 20,000 bytes, read at `/a` and `/b`, with a timeout of 1 s.
    fn bodies() -> BodyWaits {
        let limit = |pointer: &str| {
            let bucket = r#""token_bucket": {"max_tokens": 1, "fill_interval": "1s"}"#;
            format!(
                r#"{{"name": "{pointer}", "descriptor": [{{"request_body": {{"json_pointer": "/{pointer}"}}}}], {bucket}}}"#
            )
        };
        let json = format!(
            r#"{{"redis": {{"cluster": "redis"}}, "request_body": {{"max_bytes": 20000}}, "limits": [{}, {}]}}"#,
            limit("a"),
            limit("b")
        );
        BodyWaits::new(&config::parse(json.as_bytes(), &|_| None).unwrap().body)
    }

    fn awaiting(pointers: u32) -> BodyWaits {
        let mut bodies = bodies();
        bodies.arrive(MS(0), ALICE, pointers);
        bodies
    }

    /// Values at `/a` and `/b`: `-` for none, `?` for unreadable.
    fn values(body: &RequestBody) -> String {
        let at = |text| {
            let pointer = JsonPointer::parse(text).unwrap();
            let value = body.value(&pointer).map_or("-", |value| str::from_utf8(value).unwrap());
            if body.is_unreadable_at(&pointer) { "?" } else { value }.to_owned()
        };
        [at("/a"), at("/b")].join(" ")
    }

    fn due(bodies: &mut BodyWaits, now: Micros) -> Option<String> {
        bodies.pop_due(now).map(|(request, body)| {
            assert_eq!(request, ALICE);
            values(&body)
        })
    }

    #[test]
    fn a_body_is_awaited_until_it_is_whole() {
        let mut bodies = awaiting(0b11);
        assert!(bodies.piece(MS(1), ALICE, br#"{"a": 1,"#, false).is_none() && bodies.awaits(ALICE));
        assert!(bodies.piece(MS(2), ALICE, br#" "b": 2"#, false).is_none());
        let body = bodies.piece(MS(3), ALICE, b"}", true).unwrap();
        assert_eq!(values(&body), "1 2");
        assert!(!bodies.awaits(ALICE) && bodies.next_due().is_none());
        assert!(bodies.piece(MS(4), ALICE, b"}", true).is_none(), "the wait is over");
    }

    #[test]
    fn a_body_may_end_with_trailers_or_with_nothing() {
        let mut bodies = awaiting(0b11);
        bodies.piece(MS(1), ALICE, br#"{"a": 1}"#, false).map(|body| assert_eq!(values(&body), "1 -")).unwrap();
        bodies.arrive(MS(1), ALICE, 0b11);
        bodies.piece(MS(2), ALICE, b"7", false);
        assert_eq!(values(&bodies.end(ALICE).unwrap()), "- -");
        bodies.arrive(MS(1), ALICE, 0b11);
        assert_eq!(values(&bodies.piece(MS(2), ALICE, b"", true).unwrap()), "? ?");
        assert!(bodies.end(ALICE).is_none());
    }

    #[test]
    fn a_wait_ends_once_all_values_are_known_or_the_body_is_no_json() {
        for (piece, expected) in [(&br#"{"a": 1, "b": 2} "#[..], "1 2"), (b"a=1&b=2", "? ?"), (b"\x1f\x8b\x08", "? ?")]
        {
            assert_eq!(values(&awaiting(0b11).piece(MS(1), ALICE, piece, false).unwrap()), expected);
        }
    }

    #[test]
    fn the_start_of_a_body_that_is_too_large_is_read() {
        let large = |rest: &str| format!(r#"{{"a": 1, "x": "{}"{rest}"#, "x".repeat(20_000));
        for is_whole in [true, false] {
            let body = awaiting(0b11).piece(MS(1), ALICE, large(r#", "b": 2}"#).as_bytes(), is_whole).unwrap();
            assert_eq!(values(&body), "1 ?");
        }
        let mut bodies = awaiting(0b11);
        let large = large("");
        let pieces: Vec<_> =
            large.as_bytes().chunks(1_000).map(|piece| bodies.piece(MS(1), ALICE, piece, false)).collect();
        let at = pieces.iter().position(Option::is_some).unwrap();
        assert_eq!((at, values(pieces[at].as_ref().unwrap())), (20, "1 ?".to_owned()));
    }

    #[test]
    fn a_body_that_does_not_come_in_time_is_unreadable() {
        let mut bodies = awaiting(0b11);
        assert!(bodies.piece(MS(1), ALICE, br#"{"a": 1, "b": 2,"#, false).is_none());
        assert_eq!((bodies.next_due(), due(&mut bodies, MS(999))), (Some(MS(1_000)), None));
        assert_eq!(due(&mut bodies, MS(1_000)).as_deref(), Some("? ?"));
        assert!(!bodies.awaits(ALICE) && bodies.pop_due(MS(9_000)).is_none());
    }

    #[test]
    fn the_start_of_a_body_that_stalls_with_a_possibly_full_proxy_buffer_is_read() {
        let start = format!(r#"{{"a": 1, "x": "{}""#, "x".repeat(LEAST_PROXY_BUFFER));
        // All values are known.
        let mut bodies = awaiting(0b01);
        assert!(bodies.piece(MS(1), ALICE, start.as_bytes(), false).is_none());
        assert_eq!(due(&mut bodies, MS(50)), None);
        assert!(bodies.piece(MS(50), ALICE, b",", false).is_none(), "the body goes on");
        assert_eq!(due(&mut bodies, MS(99)), None);
        assert_eq!(due(&mut bodies, MS(100)).as_deref(), Some("1 -"));
        // The value at `/b` is missing.
        let mut bodies = awaiting(0b11);
        assert!(bodies.piece(MS(1), ALICE, start.as_bytes(), false).is_none());
        assert_eq!(due(&mut bodies, MS(999)), None);
        assert_eq!((bodies.next_due(), due(&mut bodies, MS(1_000))), (Some(MS(1_000)), Some("1 ?".to_owned())));
    }

    #[test]
    fn a_short_body_that_stalls_is_awaited_even_with_all_values() {
        let mut bodies = awaiting(0b01);
        let start = format!(r#"{{"a": 1, "x": "{}"#, "x".repeat(LEAST_PROXY_BUFFER - 16));
        assert_eq!(start.len(), LEAST_PROXY_BUFFER - 1);
        assert!(bodies.piece(MS(1), ALICE, start.as_bytes(), false).is_none());
        assert_eq!((due(&mut bodies, MS(999)), due(&mut bodies, MS(1_000)).as_deref()), (None, Some("? ?")));
    }

    #[test]
    fn a_request_that_has_ended_does_not_wait() {
        let mut bodies = awaiting(0b11);
        bodies.arrive(MS(5), BOB, 0b11);
        bodies.leave(ALICE);
        bodies.leave(ALICE);
        assert_eq!(bodies.next_due(), Some(MS(1_005)));
        assert_eq!(bodies.pop_due(MS(2_000)).map(|(request, _)| request), Some(BOB));
        assert!(bodies.pop_due(MS(2_000)).is_none());
    }

    #[test]
    fn without_a_charge_a_body_is_not_measured() {
        let body = awaiting(0b11).piece(MS(1), ALICE, br#"{"a": 1, "b": 2}"#, true).unwrap();
        assert_eq!((values(&body), body.size()), ("1 2".to_owned(), None));
    }
}
