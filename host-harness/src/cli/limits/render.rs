//! How things are shown.

use std::io::{self, Write};

use weir_filter::limit::TokenBucket;
use weir_filter::overrides::Ruling;
use weir_filter::units::Micros;

use super::span::span;
use super::store::Found;

/// `20 at once, then 1 per 600ms`
pub(super) fn shape(bucket: TokenBucket) -> String {
    format!("{} at once, then 1 per {}", bucket.capacity().0, span(bucket.emission()))
}

/// `blocked, for 9m 58s`
pub(super) fn ruling_and_rest(found: &Found) -> String {
    let (ruling, left) = match found {
        Found::Malformed(error) => return format!("ignored: {error}"),
        Found::Over => return "expired".to_owned(),
        Found::InForce { ruling, left } => (ruling, left),
    };
    let ruling = match ruling {
        Ruling::TokenBucket(bucket) => shape(*bucket),
        word => word.name().to_owned(),
    };
    match left {
        // Ends are whole seconds, and lie up to one further ahead than was asked for.
        Some(left) => format!("{ruling}, for {}", span(Micros::from_secs((left.0 / 1_000_000).max(1)))),
        None => ruling,
    }
}

/// The key in a field, as a filter writes it; of the one bucket of a limit without entries, `(all)`.
pub(super) fn key_of(field: &[u8]) -> String {
    let key = field.iter().position(|byte| *byte == b':').and_then(|colon| field.get(colon + 1..));
    match key {
        Some([]) => "(all)".to_owned(),
        key => key.unwrap_or_default().escape_ascii().to_string(),
    }
}

/// A name and what is to be said of it.
pub(super) fn line(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:<10} {value}")
}
