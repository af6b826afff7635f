//! Spelling: the known name that a misspelt name resembles.

use alloc::vec::Vec;

/// Longest name that is compared, in bytes.
const MAX_LEN: usize = 32;
/// Most insertions, deletions and replacements between a misspelt name and a known name.
const MAX_DISTANCE: usize = 2;

/// Returns the name of `known` that is most similar to `name`. `None` where no name is similar.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name.len() > MAX_LEN {
        return None;
    }
    // At most half of the letters: with two changes, a name of three letters is another name.
    let within = MAX_DISTANCE.min(name.len() / 2);
    known
        .iter()
        .map(|known| (distance(name, known), *known))
        .filter(|(distance, _)| *distance <= within)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Levenshtein distance in bytes, with one row of the table in memory.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (above, y) in cells.zip(b.bytes()) {
            left = if x == y { diagonal } else { diagonal.min(left).min(*above).saturating_add(1) };
            diagonal = core::mem::replace(above, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_has_its_nearest_known_name() {
        let known = ["cluster", "transport", "timeout", "env"];
        assert_eq!(nearest("clutser", &known), Some("cluster"));
        assert_eq!(nearest("time_out", &known), Some("timeout"));
        assert_eq!(nearest("transports", &known), Some("transport"));
        assert_eq!(nearest("ENV", &known), None);
        assert_eq!(nearest("password", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
