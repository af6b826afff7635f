//! Spelling: the known name that a misspelt name resembles.

/// Most insertions, deletions and replacements between a misspelt name and a known name.
const MAX_DISTANCE: usize = 3;
/// Longest name that is compared, in bytes; a longer one resembles no name.
const MAX_LEN: usize = 256;

/// Returns the known name with the fewest edits, if there are at most three, and at most half as many as the known name
/// has letters. The case of letters, underscores and hyphens do not count.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > MAX_LEN {
        return None;
    }
    let name = letters(name);
    let near = known.iter().filter_map(|known| {
        let letters = letters(known);
        if letters.len().abs_diff(name.len()) > MAX_DISTANCE {
            return None;
        }
        let distance = distance(&name, &letters);
        (distance <= MAX_DISTANCE && 2 * distance <= letters.len()).then_some((distance, *known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Returns the bytes of a name in lower case, without underscores and hyphens.
fn letters(name: &str) -> Vec<u8> {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase()).collect()
}

/// Least number of bytes to insert, delete or replace (Levenshtein's distance).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_near_to_the_one_that_was_meant() {
        let known = ["status", "headers", "limit", "retry_after", "static_resources"];
        assert_eq!(nearest("stauts", &known), Some("status"));
        assert_eq!(nearest("retry-after", &known), Some("retry_after"));
        assert_eq!(nearest("limits", &known), Some("limit"));
        assert_eq!(nearest("staticResorces", &known), Some("static_resources"));
        assert_eq!((nearest("body", &known), nearest("", &known), nearest("lid", &known)), (None, None, None));
        assert_eq!(nearest(&"status".repeat(100), &known), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        let of = |one: &str, other: &str| distance(one.as_bytes(), other.as_bytes());
        assert_eq!((of("kitten", "sitting"), of("", "abc"), of("abc", ""), of("abc", "abc")), (3, 3, 3, 0));
    }
}
