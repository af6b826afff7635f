//! Fixtures of the known APIs, whole and in pieces.

mod fixtures;
mod formats;
mod hostile;

use proptest::prelude::*;

use super::*;

/// Reads a body in pieces that end at these places.
fn read(framing: Framing, body: &[u8], cuts: &[usize]) -> Readings {
    let paths = Paths::default();
    let mut reader = Reader::new(framing);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
    cuts.sort_unstable();
    for piece in cuts.windows(2) {
        reader.push(&paths, &body[piece[0]..piece[1]]);
    }
    reader.readings().clone()
}

/// Reads a body as it stands, and byte by byte, with the same result.
fn read_all_ways(framing: Framing, body: &[u8]) -> Readings {
    let whole = read(framing, body, &[]);
    let bytes: Vec<usize> = (0..body.len()).collect();
    assert_eq!(read(framing, body, &bytes), whole, "byte by byte: {}", String::from_utf8_lossy(body));
    whole
}

fn usage(input: u64, cache_read: u64, cache_write: u64, cache_write_1h: u64, output: u64) -> Usage {
    Usage { input, cache_read, cache_write, cache_write_1h, output }
}

#[test]
fn a_content_type_names_a_framing() {
    for (content_type, framing) in [
        ("application/json", Some(Framing::Json)),
        ("application/json; charset=utf-8", Some(Framing::Json)),
        ("Application/JSON", Some(Framing::Json)),
        ("application/problem+json", Some(Framing::Json)),
        ("application/x-ndjson", Some(Framing::Json)),
        ("text/event-stream;charset=utf-8", Some(Framing::ServerSentEvents)),
        ("application/vnd.amazon.eventstream", Some(Framing::AwsEventStream)),
        ("text/plain", None),
        ("audio/mpeg", None),
        ("", None),
    ] {
        assert_eq!(Framing::of_content_type(content_type.as_bytes()), framing, "{content_type}");
    }
}

proptest! {
    #[test]
    fn pieces_do_not_matter(nth in 0..fixtures::count(), cuts in prop::collection::vec(0usize..100_000, 0..40)) {
        let fixture = fixtures::all().swap_remove(nth);
        let readings = read(fixture.framing, &fixture.body, &cuts);
        prop_assert_eq!(readings.usage(), fixture.usage);
        prop_assert_eq!(readings.malformed, 0);
    }

    #[test]
    fn line_ends_do_not_matter(nth in 0..fixtures::count(), ends in prop::sample::select(vec!["\n", "\r", "\r\n"])) {
        let fixture = fixtures::all().swap_remove(nth);
        prop_assume!(fixture.framing == Framing::ServerSentEvents);
        let body = String::from_utf8(fixture.body).unwrap().replace('\n', ends);
        prop_assert_eq!(read_all_ways(fixture.framing, body.as_bytes()).usage(), fixture.usage);
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(0usize..300, 0..5)) {
        for framing in [Framing::Json, Framing::ServerSentEvents, Framing::AwsEventStream] {
            prop_assert_eq!(read(framing, &body, &cuts), read(framing, &body, &[]));
        }
    }

    #[test]
    fn no_json_like_text_panics(body in r#"[\[\]{}",:a-u0-9\\ \n]{0,200}"#, cuts in prop::collection::vec(0usize..200, 0..5)) {
        for framing in [Framing::Json, Framing::ServerSentEvents] {
            let body = format!("data: {{\"usage\":{{\"prompt_tokens\":{body}\n\n");
            prop_assert_eq!(read(framing, body.as_bytes(), &cuts), read(framing, body.as_bytes(), &[]));
        }
    }
}
