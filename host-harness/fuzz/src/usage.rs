//! Target `usage`: the reader of what responses tell of their cost.
//!
//! Input: a byte for the framing, two for the lengths of chunks, then the body. Messages of AWS are also built from
//! pieces of the input, since hardly any bytes are whole ones.

use weir_filter::usage::{Framing, Paths, Reader, Readings, Usage};

use crate::choices::{Choices, cut};

/// Most bytes of a name that a reader keeps: 256, each of which may become a replacement character.
const MAX_NAME: usize = 3 * 256;

/// Runs the target.
///
/// # Panics
/// If chunks change what is read, if more is kept than names of a bounded length, or if text of a model forges usage.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let kind = choices.below(4);
    let lengths = [choices.below(64) + 1, choices.below(8) + 1];
    let (framing, body) = match kind {
        0 => (Framing::Json, choices.rest().to_vec()),
        1 => (Framing::ServerSentEvents, choices.rest().to_vec()),
        2 => (Framing::AwsEventStream, choices.rest().to_vec()),
        _ => (Framing::AwsEventStream, messages(&mut choices)),
    };
    let whole = read(framing, &[&body]);
    for lengths in [&lengths[..], &[1]] {
        assert_eq!(read(framing, &cut(&body, lengths)), whole, "in chunks of {lengths:?}");
    }
    let (readings, text_bytes) = whole;
    assert!(text_bytes <= body.len() as u64, "{text_bytes} bytes of text");
    assert!(readings.malformed as usize <= body.len() && readings.unreadable as usize <= body.len());
    for name in [&readings.model, &readings.service_tier].into_iter().flatten() {
        assert!(name.len() <= MAX_NAME, "a name of {} bytes", name.len());
    }
    check_forgery(&body);
}

/// Reads a body in chunks: what it tells, and the bytes of its text.
fn read(framing: Framing, chunks: &[&[u8]]) -> (Readings, u64) {
    let (paths, mut reader) = (Paths::default(), Reader::new(framing));
    chunks.iter().for_each(|chunk| reader.push(&paths, chunk));
    (reader.readings().clone(), reader.text_bytes())
}

/// Builds messages of AWS: a byte for the length of the headers, and a piece for the payload.
fn messages(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    while !choices.are_over() {
        let (headers, payload) = (choices.below(16), choices.piece());
        let total = u32::try_from(16 + headers + payload.len()).unwrap_or(u32::MAX);
        all.extend(total.to_be_bytes());
        all.extend(u32::try_from(headers).unwrap_or(0).to_be_bytes());
        all.extend(vec![0; 4 + headers]);
        all.extend(payload);
        all.extend([0; 4]);
    }
    all
}

/// Puts bytes into a response as the text of a model: it tells the same usage whatever they are.
fn check_forgery(text: &[u8]) {
    let text = serde_json::Value::from(String::from_utf8_lossy(text).into_owned());
    let body = format!(
        r#"{{"choices":[{{"message":{{"content":{text}}},"delta":{text}}}],"delta":{text},
        "usage":{{"prompt_tokens":7,"completion_tokens":5}}}}"#
    );
    let event = format!("data: {}\n\n", body.replace('\n', ""));
    for (framing, body) in [(Framing::Json, &body), (Framing::ServerSentEvents, &event)] {
        let (readings, _) = read(framing, &[body.as_bytes()]);
        let told = Usage { input: 7, output: 5, ..Usage::default() };
        assert_eq!((readings.usage(), readings.malformed, readings.has_error), (Some(told), 0, false), "{body:?}");
    }
}
