//! Usage of language models: what a response says that it cost, in tokens.
//!
//! A response is read while it passes: nothing of it is kept, held or changed. [`Reader`] takes the body piece by piece,
//! splits it by its [`Framing`] into documents of JSON, and keeps the last number at each [place](Field) that any of the
//! known APIs uses. [`Readings::usage`] brings these numbers into one normal form, [`Usage`], which [`Prices`] turn into
//! money.
//!
//! Text that a model writes cannot forge usage: it stands inside of strings.

mod amounts;
mod document;
mod field;
mod format;
mod framing;
mod paths;
mod prices;
mod reader;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow: that is how they fail")]
mod tests;

pub use self::amounts::{Numbers, Readings, Usage};
pub use self::field::Field;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::field::NAMED;
pub use self::format::Format;
pub use self::framing::Framing;
pub use self::paths::Paths;
pub use self::prices::{ModelPrice, NanoUsd, Price, Prices, Rates, TierFactor, UnknownModel};
pub use self::reader::Reader;
