//! Parser of expressions.

/// Expression of CEL's subset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    Text(String),
    Flag(bool),
    List(Vec<Self>),
    /// Names and indexes from the outermost: `a.b['c'][0]`.
    Path(Vec<String>),
    /// Function with its arguments; of a method, the first one is its object.
    Call(String, Vec<Self>),
    Equal(Box<Self>, Box<Self>),
    In(Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Number(String),
    /// Operator or bracket.
    Sign(&'static str),
}

const SIGNS: [&str; 14] = ["==", "!=", "&&", "||", "<=", ">=", "!", "(", ")", "[", "]", ".", ",", "?"];
/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// Parses an expression. `None` if it is none of the subset.
pub(crate) fn parse(text: &str) -> Option<Expression> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let expression = parser.either()?;
    parser.tokens.is_empty().then_some(expression)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => {
                let (text, length) = quoted(rest, first)?;
                tokens.push(Token::Text(text));
                length
            }
            first if first.is_ascii_alphabetic() || first == '_' => {
                let end = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(rest.len());
                tokens.push(Token::Name(rest.get(..end)?.to_owned()));
                end
            }
            first if first.is_ascii_digit() => {
                let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len());
                tokens.push(Token::Number(rest.get(..end)?.to_owned()));
                end
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
                tokens.push(Token::Sign(sign));
                sign.len()
            }
        };
        rest = rest.get(length..)?.trim_start();
    }
    Some(tokens)
}

/// A text in quotes, and its length with them.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((text, at.saturating_add(1))),
            '\\' => text.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                it if "\\'\"".contains(it) => it,
                _ => return None,
            }),
            _ => text.push(character),
        }
    }
    None
}

struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl<'a> Parser<'a> {
    fn takes(&mut self, sign: &str) -> bool {
        match self.tokens.split_first() {
            Some((Token::Sign(found), rest)) if *found == sign => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn either(&mut self) -> Option<Expression> {
        self.depth = self.depth.saturating_add(1);
        let mut left = (self.depth <= MAX_DEPTH).then(|| self.both())??;
        while self.takes("||") {
            left = Expression::Or(Box::new(left), Box::new(self.both()?));
        }
        self.depth = self.depth.saturating_sub(1);
        Some(left)
    }

    fn both(&mut self) -> Option<Expression> {
        let mut left = self.comparison()?;
        while self.takes("&&") {
            left = Expression::And(Box::new(left), Box::new(self.comparison()?));
        }
        Some(left)
    }

    fn comparison(&mut self) -> Option<Expression> {
        let left = self.unary()?;
        if self.takes("==") {
            return Some(Expression::Equal(Box::new(left), Box::new(self.unary()?)));
        }
        if self.takes("!=") {
            let equal = Expression::Equal(Box::new(left), Box::new(self.unary()?));
            return Some(Expression::Not(Box::new(equal)));
        }
        if matches!(self.tokens.first(), Some(Token::Name(name)) if name == "in") {
            self.next()?;
            return Some(Expression::In(Box::new(left), Box::new(self.unary()?)));
        }
        Some(left)
    }

    fn unary(&mut self) -> Option<Expression> {
        let mut is_negated = false;
        while self.takes("!") {
            is_negated = !is_negated;
        }
        let inner = self.primary()?;
        Some(if is_negated { Expression::Not(Box::new(inner)) } else { inner })
    }

    fn primary(&mut self) -> Option<Expression> {
        if self.takes("(") {
            let inner = self.either()?;
            return self.takes(")").then_some(inner);
        }
        if self.takes("[") {
            return self.list("]").map(Expression::List);
        }
        match self.next()? {
            Token::Text(text) => Some(Expression::Text(text.clone())),
            Token::Name(name) if name == "true" || name == "false" => Some(Expression::Flag(name == "true")),
            Token::Name(name) if self.takes("(") => Some(Expression::Call(name.clone(), self.list(")")?)),
            Token::Name(name) => self.path(name),
            Token::Number(_) | Token::Sign(_) => None,
        }
    }

    fn path(&mut self, first: &str) -> Option<Expression> {
        let mut steps = vec![first.to_owned()];
        loop {
            if self.takes("[") {
                match self.next()? {
                    Token::Text(step) | Token::Number(step) => steps.push(step.clone()),
                    Token::Name(_) | Token::Sign(_) => return None,
                }
                self.takes("]").then_some(())?;
            } else if self.takes(".") {
                let Token::Name(name) = self.next()? else { return None };
                if self.takes("(") {
                    let mut arguments = vec![Expression::Path(steps)];
                    arguments.extend(self.list(")")?);
                    return Some(Expression::Call(name.clone(), arguments));
                }
                steps.push(name.clone());
            } else {
                return Some(Expression::Path(steps));
            }
        }
    }

    fn list(&mut self, end: &str) -> Option<Vec<Expression>> {
        let mut items = Vec::new();
        if self.takes(end) {
            return Some(items);
        }
        loop {
            items.push(self.either()?);
            if self.takes(end) {
                return Some(items);
            }
            self.takes(",").then_some(())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_names_and_indexes() {
        let path = |steps: &[&str]| Some(Expression::Path(steps.iter().map(|step| (*step).to_owned()).collect()));
        assert_eq!(parse("descriptors[0]['req.method']"), path(&["descriptors", "0", "req.method"]));
        assert_eq!(parse("request.headers[\"x-a\"]"), path(&["request", "headers", "x-a"]));
        assert_eq!(parse("a"), path(&["a"]));
    }

    #[test]
    fn other_expressions_are_refused() {
        let deep = "(".repeat(9_999);
        for text in ["", "1 + 1", "a ==", "a == 'x", "a < 3", "size(a) > 1", "a ? b : c", "a[b]", &deep] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn and_binds_closer_than_or() {
        let text = parse("a == 'x' || b == 'y' && !c").unwrap();
        assert!(matches!(text, Expression::Or(_, right) if matches!(*right, Expression::And(..))));
    }
}
