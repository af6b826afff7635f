//! Matchers of headers, query parameters and texts as conditions.

use crate::documents::At;
use crate::import::condition::{Condition, Test};
use crate::import::source::Source;

/// Condition of a value, or the reason why there is none.
pub(super) type Matched = Result<Condition, String>;

/// Field with a text, and the test that it makes.
type Maker = (&'static str, fn(String) -> Test);

/// All matchers of a list.
pub(super) fn all(items: &[At<'_>], matcher: fn(&At<'_>) -> Matched) -> Matched {
    Ok(Condition::all(items.iter().map(matcher).collect::<Result<Vec<_>, _>>()?))
}

/// A `HeaderMatcher`.
pub(super) fn header(at: &At<'_>) -> Matched {
    let name = at.text_of("name");
    if name.is_empty() {
        return Err("a header matcher without `name`".to_owned());
    }
    let source = Source::header(name);
    let is_inverted = at.is_set("invert_match");
    let present = source.is_present();
    if let Some(expected) = at.field("present_match") {
        let is_present = expected.flag().unwrap_or(true) != is_inverted;
        return Ok(if is_present { present } else { Condition::not(present) });
    }
    let Some(test) = test_of(at)? else {
        return Ok(if is_inverted { Condition::not(present) } else { present });
    };
    let passed = source.passes(test.clone()).ok_or_else(|| format!("a match of {}", source.name()))?;
    // A missing header matches nothing, also not the inverse of a match, unless it is to be treated as empty.
    let (matched, is_empty_matched) = match is_inverted {
        true => (Condition::all([present.clone(), Condition::not(passed)]), !holds_for_empty(&test)),
        false => (passed, holds_for_empty(&test)),
    };
    let or_missing = at.is_set("treat_missing_header_as_empty") && is_empty_matched;
    Ok(if or_missing { Condition::any([matched, Condition::not(present)]) } else { matched })
}

/// A `QueryParameterMatcher`.
pub(super) fn query_parameter(at: &At<'_>) -> Matched {
    let name = at.text_of("name");
    if name.is_empty() {
        return Err("a query parameter matcher without `name`".to_owned());
    }
    let source = Source::Query(name.to_owned());
    if at.field("present_match").is_some_and(|at| at.flag() == Some(false)) {
        return Ok(Condition::not(source.is_present()));
    }
    match at.field("string_match").map(|at| string(&at)).transpose()? {
        Some(test) => source.passes(test).ok_or_else(|| "a match of a query parameter".to_owned()),
        None => Ok(source.is_present()),
    }
}

/// The test of a header matcher, in `string_match` or one of the older fields.
fn test_of(at: &At<'_>) -> Result<Option<Test>, String> {
    if let Some(at) = at.field("string_match") {
        return string(&at).map(Some);
    }
    let text = |name: &str| at.field(name).and_then(|at| at.text()).map(str::to_owned);
    if let Some(regex) = at.field("safe_regex_match") {
        return Ok(Some(Test::Regex(regex.text_of("regex").to_owned())));
    }
    if at.field("range_match").is_some() {
        return Err("range_match of a header".to_owned());
    }
    let tests: [Maker; 4] = [
        ("exact_match", Test::Exact),
        ("prefix_match", Test::Prefix),
        ("suffix_match", Test::Suffix),
        ("contains_match", Test::Contains),
    ];
    Ok(tests.into_iter().find_map(|(name, test)| text(name).map(test)))
}

/// A `StringMatcher`.
pub(super) fn string(at: &At<'_>) -> Result<Test, String> {
    if at.is_set("ignore_case") {
        return Err("ignore_case of a string match".to_owned());
    }
    if let Some(regex) = at.field("safe_regex") {
        return Ok(Test::Regex(regex.text_of("regex").to_owned()));
    }
    let tests: [Maker; 4] =
        [("exact", Test::Exact), ("prefix", Test::Prefix), ("suffix", Test::Suffix), ("contains", Test::Contains)];
    let text = |name: &str| at.field(name).and_then(|at| crate::import::scalar(&at));
    let found = tests.into_iter().find_map(|(name, test)| text(name).map(test));
    found.ok_or_else(|| "a string match of another kind".to_owned())
}

/// Whether an empty text passes a test.
fn holds_for_empty(test: &Test) -> bool {
    match test {
        Test::Exact(text) | Test::Prefix(text) | Test::Suffix(text) | Test::Contains(text) => text.is_empty(),
        Test::Regex(regex) => matches!(regex.as_str(), "" | ".*"),
        Test::Present => true,
        Test::Within(_) => false,
    }
}
