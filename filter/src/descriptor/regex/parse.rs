//! Parser of regular expressions.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::RegexError;

/// Maximum nesting depth of groups.
pub(super) const MAX_DEPTH: usize = 16;
/// Maximum count of a repetition: greater counts exceed the states anyway.
const MAX_COUNT: u16 = 1_000;

/// Syntax tree of a regular expression.
pub(super) enum Expression {
    /// Byte of a class.
    Byte(Class),
    /// Start of the text.
    Start,
    /// End of the text.
    End,
    /// Expressions one after the other.
    Sequence(Vec<Expression>),
    /// Choice among several expressions.
    Choice(Vec<Expression>),
    /// Repetition of an expression, at least `min` and at most `max` times; unbounded without `max`.
    Repeat { what: Box<Expression>, min: u16, max: Option<u16> },
}

/// Set of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    /// Ranges with both ends included.
    ranges: Vec<(u8, u8)>,
    is_negated: bool,
    ignores_case: bool,
}

impl Class {
    pub(super) fn contains(&self, byte: u8) -> bool {
        let has = |byte: u8| self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte));
        let other_case = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        (has(byte) || self.ignores_case && has(other_case)) != self.is_negated
    }
}

pub(super) struct Parser<'a> {
    pattern: &'a str,
    at: usize,
    depth: usize,
    ignores_case: bool,
}

impl<'a> Parser<'a> {
    pub(super) fn new(pattern: &'a str) -> Self {
        Self { pattern, at: 0, depth: 0, ignores_case: false }
    }

    pub(super) fn parse(mut self) -> Result<Expression, RegexError> {
        self.ignores_case = self.skip("(?i)");
        let expression = self.choice()?;
        // Only an unmatched closing bracket ends a choice early.
        if self.rest().is_empty() { Ok(expression) } else { Err(RegexError::Unpaired(self.at)) }
    }

    fn choice(&mut self) -> Result<Expression, RegexError> {
        let mut branches = vec![self.sequence()?];
        while self.skip("|") {
            branches.push(self.sequence()?);
        }
        Ok(Expression::Choice(branches))
    }

    fn sequence(&mut self) -> Result<Expression, RegexError> {
        let mut items = Vec::new();
        while let Some(next) = self.peek().filter(|next| !matches!(next, '|' | ')')) {
            let item = self.atom(next)?;
            items.push(self.repeated(item)?);
        }
        Ok(Expression::Sequence(items))
    }

    fn atom(&mut self, first: char) -> Result<Expression, RegexError> {
        let start = self.at;
        self.advance(first);
        match first {
            '(' => self.group(start),
            '[' => self.class(start),
            '.' => Ok(self.byte(vec![(b'\n', b'\n')], true)),
            '^' => Ok(Expression::Start),
            '$' => Ok(Expression::End),
            '\\' => self.escape(start).map(|ranges| self.byte(ranges, false)),
            '*' | '+' | '?' | '{' => Err(RegexError::Repetition(start)),
            _ => Ok(self.literal(first)),
        }
    }

    /// Parses a group after its opening bracket at `start`.
    fn group(&mut self, start: usize) -> Result<Expression, RegexError> {
        if !self.skip("?:") && self.peek() == Some('?') {
            return Err(RegexError::Unsupported(start));
        }
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(RegexError::TooDeep);
        }
        let inner = self.choice()?;
        self.depth = self.depth.saturating_sub(1);
        if self.skip(")") { Ok(inner) } else { Err(RegexError::Unpaired(start)) }
    }

    /// Matches a character as the bytes of its UTF-8 encoding.
    fn literal(&self, char: char) -> Expression {
        let mut buffer = [0; 4];
        let bytes = char.encode_utf8(&mut buffer).bytes();
        Expression::Sequence(bytes.map(|byte| self.byte(vec![(byte, byte)], false)).collect())
    }

    fn byte(&self, ranges: Vec<(u8, u8)>, is_negated: bool) -> Expression {
        Expression::Byte(Class { ranges, is_negated, ignores_case: self.ignores_case })
    }

    /// Parses an escape after its backslash at `start`.
    fn escape(&mut self, start: usize) -> Result<Vec<(u8, u8)>, RegexError> {
        let unsupported = RegexError::Unsupported(start);
        let escaped = self.peek().filter(char::is_ascii).ok_or(unsupported)?;
        self.advance(escaped);
        Ok(match escaped {
            'd' => vec![(b'0', b'9')],
            'D' => vec![(0, b'/'), (b':', u8::MAX)],
            'w' => vec![(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')],
            'W' => vec![(0, b'/'), (b':', b'@'), (b'[', b'^'), (b'`', b'`'), (b'{', u8::MAX)],
            's' => vec![(b'\t', b'\r'), (b' ', b' ')],
            'S' => vec![(0, 8), (14, 31), (b'!', u8::MAX)],
            _ => {
                let byte = match escaped {
                    't' => b'\t',
                    'n' => b'\n',
                    'r' => b'\r',
                    _ => u8::try_from(escaped).ok().filter(u8::is_ascii_punctuation).ok_or(unsupported)?,
                };
                vec![(byte, byte)]
            }
        })
    }

    /// Parses a class after its opening square bracket at `start`.
    fn class(&mut self, start: usize) -> Result<Expression, RegexError> {
        let is_negated = self.skip("^");
        let mut ranges = Vec::new();
        let mut is_first = true;
        loop {
            let position = self.at;
            let first = self.peek().ok_or(RegexError::Unpaired(start))?;
            self.advance(first);
            if first == ']' && !is_first {
                break;
            }
            is_first = false;
            ranges.extend(self.range(first, position)?);
        }
        Ok(self.byte(ranges, is_negated))
    }

    /// Parses a member of a class that starts with `first` at `position`: a byte, an escape or a range.
    fn range(&mut self, first: char, position: usize) -> Result<Vec<(u8, u8)>, RegexError> {
        match first {
            // Named classes are outside of the subset.
            '[' if self.rest().starts_with([':', '.', '=']) => return Err(RegexError::Unsupported(position)),
            '\\' => return self.escape(position),
            _ => {}
        }
        let low = ascii(first, position)?;
        if !self.rest().starts_with('-') || self.rest().starts_with("-]") {
            return Ok(vec![(low, low)]);
        }
        self.advance('-');
        let last = self.peek().ok_or(RegexError::Class(position))?;
        self.advance(last);
        let high = ascii(last, position)?;
        let is_upward = low <= high && last != '\\';
        if is_upward { Ok(vec![(low, high)]) } else { Err(RegexError::Class(position)) }
    }

    /// Parses the repetition of `item`, if any.
    fn repeated(&mut self, item: Expression) -> Result<Expression, RegexError> {
        let start = self.at;
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => self.counts().ok_or(RegexError::Repetition(start))?,
            _ => return Ok(item),
        };
        if self.at == start {
            self.at = start.saturating_add(1);
        }
        // Greediness does not matter, as the whole text must match.
        self.skip("?");
        if matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
            return Err(RegexError::Repetition(self.at));
        }
        Ok(Expression::Repeat { what: Box::new(item), min, max })
    }

    /// Parses `{3}`, `{3,}` or `{3,5}`.
    fn counts(&mut self) -> Option<(u16, Option<u16>)> {
        let (inside, _) = self.rest().strip_prefix('{')?.split_once('}')?;
        let (min, max) = match inside.split_once(',') {
            None => (count(inside)?, Some(count(inside)?)),
            Some((min, "")) => (count(min)?, None),
            Some((min, max)) => (count(min)?, Some(count(max)?)),
        };
        self.at = self.at.saturating_add(inside.len()).saturating_add(2);
        max.is_none_or(|max| min <= max).then_some((min, max))
    }

    fn rest(&self) -> &'a str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self, over: char) {
        self.at = self.at.saturating_add(over.len_utf8());
    }

    fn skip(&mut self, what: &str) -> bool {
        let is_there = self.rest().starts_with(what);
        if is_there {
            self.at = self.at.saturating_add(what.len());
        }
        is_there
    }
}

fn ascii(char: char, position: usize) -> Result<u8, RegexError> {
    u8::try_from(char).ok().filter(u8::is_ascii).ok_or(RegexError::Class(position))
}

fn count(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|count| *count <= MAX_COUNT)
}
