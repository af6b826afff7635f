//! Time spans in the form that operators read and write.

use weir_filter::units::Micros;

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];

/// Parses `90s`, `10m` or `1h30m` as configurations do, or a unit alone: `s` is one second. `None` for 0 and for any
/// other text.
pub(crate) fn parse(text: &str) -> Option<Micros> {
    let is_unit = UNITS.iter().any(|(name, _)| *name == text);
    let span = if is_unit { Micros::parse(&format!("1{text}")) } else { Micros::parse(text) };
    span.ok().filter(|span| *span > Micros::ZERO)
}

/// A span in its two greatest units, rounded up to the smaller: `2m 30s`, `1.8s`, `12ms`.
pub(crate) fn span(Micros(micros): Micros) -> String {
    let [(_, day), (_, hour), (_, minute), (_, second), (_, milli)] = UNITS;
    let pair = |(greater, a): (&str, u64), (less, b): (&str, u64)| {
        let whole = micros.div_ceil(b);
        match (whole / (a / b), whole % (a / b)) {
            (n, 0) => format!("{n}{greater}"),
            (n, rest) => format!("{n}{greater} {rest}{less}"),
        }
    };
    let up_to = |unit: u64| micros.div_ceil(unit).saturating_mul(unit);
    match micros {
        0 => "0s".to_owned(),
        _ if up_to(minute) >= day => pair(("d", day), ("h", hour)),
        _ if up_to(second) >= hour => pair(("h", hour), ("m", minute)),
        _ if up_to(second / 10) >= minute => pair(("m", minute), ("s", second)),
        _ if up_to(milli) >= second => {
            let tenths = micros.div_ceil(second / 10);
            if tenths % 10 == 0 { format!("{}s", tenths / 10) } else { format!("{}.{}s", tenths / 10, tenths % 10) }
        }
        _ if micros >= milli => format!("{}ms", micros.div_ceil(milli)),
        _ => format!("{micros}µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_write_spans_as_configurations_do() {
        for (text, micros) in [
            ("90s", 90_000_000),
            ("10m", 600_000_000),
            ("s", 1_000_000),
            ("500ms", 500_000),
            ("1h30m", 5_400_000_000),
            ("0.5s", 500_000),
        ] {
            assert_eq!(parse(text), Some(Micros(micros)), "{text}");
        }
        assert_eq!(parse("7d"), Some(Micros::from_secs(7 * 86_400)));
        for text in ["", "10", "0s", "-1s", "1.5h", "10 m", "1w", "99999999999999999999s", "9999999999999d", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_span_is_shown_in_two_units_and_never_shorter_than_it_is() {
        let shown = [
            (0, "0s"),
            (1, "1µs"),
            (1_000, "1ms"),
            (11_001, "12ms"),
            (1_000_000, "1s"),
            (1_800_000, "1.8s"),
            (1_800_001, "1.9s"),
            (59_900_001, "1m"),
            (3_599_999_999, "1h"),
            (150_000_000, "2m 30s"),
            (119_000_001, "2m"),
            (86_400_000_000, "1d"),
            (90_000_000_000, "1d 1h"),
        ];
        for (micros, text) in shown {
            assert_eq!(span(Micros(micros)), text);
        }
    }
}
