//! Work of a scan: the bound for a document, and the prices of its parts.

/// Work that any document is worth: 2,000 members, say. Prices are of the order of instructions; `tests/work/` holds
/// their sum against what is executed.
pub(super) const WORK: usize = 2_900_000;
/// Work that each byte of the longest document is worth.
pub(super) const WORK_PER_BYTE: usize = 44;
/// Work of reading one byte of a string, number, word or blank.
pub(super) const READ_BYTE: usize = 25;
/// Work of reading one byte of what is skipped.
pub(super) const SKIPPED_BYTE: usize = 40;
/// Work of decoding one byte of a value.
pub(super) const DECODED_BYTE: usize = 60;
/// Work of a bracket, colon, comma or quote.
pub(super) const PUNCTUATION: usize = 150;
/// Work of the step to a member or an item, of comparing it with that of a pointer, and of setting a value.
pub(super) const STEP: usize = 300;
pub(super) const COMPARED: usize = 220;
pub(super) const SET: usize = 300;
