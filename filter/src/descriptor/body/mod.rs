//! JSON request bodies, read at JSON pointers.

mod place;
mod scanner;
mod size;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod values;
mod work;

pub(crate) use self::scanner::JsonScanner;
pub use self::size::BodySize;
pub(crate) use self::text::{number as json_number, unescaped};
pub(crate) use self::tokens::find_in_text;
pub use self::values::RequestBody;
