//! Settings for requests at the limit: near it, and beyond it.

use alloc::borrow::ToOwned;

use super::reader::{Node, Object};
use super::report::Read;
use super::source;
use crate::limit::{Mark, NearLimit};

const EXPECTED: &str = "\"deny\" or an object such as {mark: {name: x-over-limit}}";
const NAME: &str = "a header's name, not one of the connection or the body";
/// Headers that the proxy needs itself.
pub(super) const RESERVED: &[&str] = &["host", "connection", "content-length", "te", "transfer-encoding", "upgrade"];
const BESIDE: &str = "nothing beside on_exceed.mark: a limit that marks requests neither denies nor holds them";
const MAX_VALUE: usize = 256;
const DEFAULT_VALUE: &str = "1";

/// Reads `on_exceed`: a mark, `None` to deny.
pub(super) fn read(node: &Node<'_>) -> Read<Option<Mark>> {
    if !node.is_object() {
        return node.text_matching(EXPECTED, |text| text == "deny").map(|_| None);
    }
    let (_, node) = node.one_field(&["mark"])?;
    let fields = node.object(&["name", "value"])?;
    let name = fields.required("name", NAME).and_then(|node| {
        node.text_matching(NAME, |text| {
            source::is_token(text) && !RESERVED.iter().any(|reserved| text.eq_ignore_ascii_case(reserved))
        })
    });
    let value = fields.or("value", DEFAULT_VALUE, |node| {
        node.text_matching("1 to 256 printable ASCII characters", |text| {
            (1..=MAX_VALUE).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        })
    });
    Ok(Some(Mark { name: name?.to_ascii_lowercase(), value: value?.to_owned() }))
}

/// Refuses the settings of a limit with a mark that only a limit which denies or holds requests can have.
#[inline(never)]
pub(super) fn refuse_beside_mark(limit: Object<'_>) -> Read<()> {
    let mut result = Ok(());
    for (name, harmless) in [("max_delay", "0s"), ("failure_mode", "allow"), ("response", "")] {
        if let Some(node) = limit.field(name).filter(|node| !node.is_text_of(harmless)) {
            result = Err(node.expected(BESIDE));
        }
    }
    result
}

/// Reads `near_limit`.
pub(super) fn near_limit(node: &Node<'_>) -> Read<NearLimit> {
    let expected = "a number from 0.000001 to 0.999999, such as 0.8";
    node.decimal().and_then(NearLimit::new).ok_or_else(|| node.expected(expected))
}
