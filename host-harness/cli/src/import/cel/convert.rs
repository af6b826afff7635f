//! Expressions as conditions.

use super::Expression;
use crate::import::condition::{Condition, Test};
use crate::import::source::Source;

/// Meaning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operand {
    /// Value of the request.
    Value(Source),
    /// The same value for all requests.
    Constant(String),
    /// No request has a value.
    Absent,
    /// Map whose keys are names of headers.
    Headers,
}

/// The meaning of paths; the error says what has no counterpart.
pub(crate) type Resolver<'a> = &'a dyn Fn(&[String]) -> Result<Operand, String>;

/// The condition of an expression; the error says what in it has no counterpart.
pub(crate) fn condition(expression: &Expression, resolve: Resolver<'_>) -> Result<Condition, String> {
    convert(expression, false, resolve)
}

fn convert(expression: &Expression, is_negated: bool, resolve: Resolver<'_>) -> Result<Condition, String> {
    match expression {
        Expression::Flag(flag) => Ok(if *flag == is_negated { Condition::Never } else { Condition::Always }),
        Expression::Not(inner) => convert(inner, !is_negated, resolve),
        Expression::And(left, right) | Expression::Or(left, right) => {
            let both = [convert(left, is_negated, resolve)?, convert(right, is_negated, resolve)?];
            let is_and = matches!(expression, Expression::And(..)) != is_negated;
            Ok(if is_and { Condition::all(both) } else { Condition::any(both) })
        }
        Expression::Equal(left, right) => match (left.as_ref(), right.as_ref()) {
            (Expression::Path(path), Expression::Text(text)) | (Expression::Text(text), Expression::Path(path)) => {
                tested(&resolve(path)?, &Test::Exact(text.clone()), is_negated)
            }
            _ => Err("a comparison other than with a text".to_owned()),
        },
        Expression::In(left, right) => contained(left, right, is_negated, resolve),
        Expression::Call(name, arguments) => call(name, arguments, is_negated, resolve),
        _ => Err("a value in the place of a condition".to_owned()),
    }
}

fn contained(
    left: &Expression,
    right: &Expression,
    is_negated: bool,
    resolve: Resolver<'_>,
) -> Result<Condition, String> {
    match (left, right) {
        (Expression::Path(path), Expression::List(items)) => {
            let operand = resolve(path)?;
            let tests = items.iter().map(|item| match item {
                Expression::Text(text) => tested(&operand, &Test::Exact(text.clone()), is_negated),
                _ => Err("a list of other values than texts".to_owned()),
            });
            let tests = tests.collect::<Result<Vec<_>, _>>()?;
            Ok(if is_negated { Condition::all(tests) } else { Condition::any(tests) })
        }
        (Expression::Text(name), Expression::Path(path)) if resolve(path)? == Operand::Headers => {
            let present = Source::header(name).is_present();
            Ok(if is_negated { Condition::not(present) } else { present })
        }
        _ => Err("`in` of another value than a list of texts".to_owned()),
    }
}

fn call(name: &str, arguments: &[Expression], is_negated: bool, resolve: Resolver<'_>) -> Result<Condition, String> {
    if let ("has", [Expression::Path(path)]) = (name, arguments) {
        let present = match resolve(path)? {
            Operand::Value(source) => source.is_present(),
            Operand::Constant(_) | Operand::Headers => Condition::Always,
            Operand::Absent => Condition::Never,
        };
        return Ok(if is_negated { Condition::not(present) } else { present });
    }
    let [Expression::Path(path), Expression::Text(text)] = arguments else {
        return Err(format!("the function {name}"));
    };
    let test = match name {
        "startsWith" => Test::Prefix(text.clone()),
        "endsWith" => Test::Suffix(text.clone()),
        "contains" => Test::Contains(text.clone()),
        "matches" => Test::Regex(whole(text)?),
        _ => return Err(format!("the function {name}")),
    };
    tested(&resolve(path)?, &test, is_negated)
}

/// A regular expression for the whole text, from one for any part of it.
fn whole(regex: &str) -> Result<String, String> {
    let (start, rest) = regex.strip_prefix('^').map_or((".*", regex), |rest| ("", rest));
    let is_escaped = rest.ends_with("\\$");
    let (rest, end) = rest.strip_suffix('$').filter(|_| !is_escaped).map_or((rest, ".*"), |rest| (rest, ""));
    let has_anchor = start.is_empty() || end.is_empty();
    match rest.contains('|') {
        true if has_anchor => Err("a regular expression with anchors and alternatives".to_owned()),
        true => Ok(format!("{start}({rest}){end}")),
        false => Ok(format!("{start}{rest}{end}")),
    }
}

fn tested(operand: &Operand, test: &Test, is_negated: bool) -> Result<Condition, String> {
    let source = match operand {
        Operand::Value(source) => source,
        Operand::Absent => return Ok(Condition::Never),
        Operand::Headers => return Err("a comparison of all headers".to_owned()),
        Operand::Constant(constant) => {
            let holds = match test {
                Test::Exact(text) => constant == text,
                Test::Prefix(text) => constant.starts_with(text.as_str()),
                Test::Suffix(text) => constant.ends_with(text.as_str()),
                Test::Contains(text) => constant.contains(text.as_str()),
                _ => return Err("a regular expression on a constant".to_owned()),
            };
            return Ok(if holds == is_negated { Condition::Never } else { Condition::Always });
        }
    };
    let condition = match test {
        Test::Exact(text) => source.equals(text),
        // The start of a path with its query string is that of the path.
        Test::Prefix(text) if is_path_prefix(source, text) => Source::Path.passes(test.clone()),
        test => source.passes(test.clone()),
    };
    let condition = condition.ok_or_else(|| format!("a comparison of {}", source.name()))?;
    Ok(match is_negated {
        true => Condition::all([source.is_present(), Condition::not(condition)]),
        false => condition,
    })
}

fn is_path_prefix(source: &Source, text: &str) -> bool {
    *source == Source::Header(":path".to_owned()) && text.starts_with('/') && !text.contains(['?', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::cel::parse;

    fn of(text: &str) -> Result<Condition, String> {
        condition(&parse(text).expect("an expression"), &|path| match path {
            [one] if one == "x" => Ok(Operand::Value(Source::Header("x".to_owned()))),
            [one] if one == "k" => Ok(Operand::Constant("v".to_owned())),
            [one] if one == "none" => Ok(Operand::Absent),
            _ => Err("another path".to_owned()),
        })
    }

    fn x(text: &str) -> Condition {
        Condition::Value(Source::Header("x".to_owned()), Test::Exact(text.to_owned()))
    }

    #[test]
    fn a_missing_value_is_not_unequal_either() {
        let present = Source::Header("x".to_owned()).is_present();
        let unequal = Condition::all([present, Condition::not(x("a"))]);
        assert_eq!(of("x != 'a'"), Ok(unequal.clone()));
        assert_eq!(of("!(x == 'a')"), Ok(unequal));
        assert_eq!(of("none != 'a'"), Ok(Condition::Never));
    }

    #[test]
    fn constants_are_decided_at_once() {
        assert_eq!(of("k == 'v' && x == 'a'"), Ok(x("a")));
        assert_eq!(of("k == 'w' && x == 'a'"), Ok(Condition::Never));
        assert_eq!(of("k == 'w' || x in ['a', 'b']"), Ok(Condition::any([x("a"), x("b")])));
    }

    #[test]
    fn a_match_of_a_part_becomes_one_of_the_whole() {
        assert_eq!(whole("^/v[0-9]+$").unwrap(), "/v[0-9]+");
        assert_eq!(whole("a|b").unwrap(), ".*(a|b).*");
        assert!(whole("^a|b").is_err());
        assert_eq!(whole(r"a\$").unwrap(), r".*a\$.*");
    }
}
