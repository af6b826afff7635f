//! JSON request bodies, read at JSON pointers.

mod place;
mod scanner;
mod size;
mod state;
#[cfg(test)]
mod tests;
mod tokens;
mod values;
mod work;

pub(crate) use self::scanner::JsonScanner;
pub use self::size::BodySize;
pub use self::values::RequestBody;
