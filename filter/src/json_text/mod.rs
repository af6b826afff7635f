//! Text of JSON documents, read in pieces of any length: where strings end, what they and numbers stand for.

mod escapes;
mod number;
mod search;
mod strings;

pub(crate) use self::escapes::unescaped;
pub(crate) use self::number::number;
pub(crate) use self::strings::{End, Split, is_line_end, plain, split};
