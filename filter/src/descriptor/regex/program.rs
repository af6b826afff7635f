//! Compiler of an expression to the states of a machine.

use alloc::vec::Vec;

use super::parse::{Class, Expression};

/// Maximum number of states.
pub(super) const MAX_STATES: usize = 256;

/// Nondeterministic machine that starts in its first state and accepts in `Accept`.
pub(super) struct Program(Vec<State>);

/// State, by its transition. The next state is the following one, except for `Fork` and `Accept`.
pub(super) enum State {
    /// Consumes a byte of a class.
    Byte(Class),
    /// Passes at the start of the text.
    Start,
    /// Passes at the end of the text.
    End,
    /// Passes to either of two states.
    Fork(u16, u16),
    /// Accepts.
    Accept,
}

impl Program {
    /// Compiles an expression. `None` if it has too many states.
    pub(super) fn compile(expression: &Expression) -> Option<Self> {
        let mut compiler = Compiler { states: Vec::new(), fuel: MAX_STATES.saturating_mul(16) };
        compiler.expression(expression)?;
        compiler.push(State::Accept)?;
        Some(Self(compiler.states))
    }

    /// States of the program.
    pub(super) fn states(&self) -> &[State] {
        &self.0
    }

    /// Returns the states reachable from `state` without a byte that wait for a byte, for the end of the text, or
    /// accept. States for the start or end of the text are passed if `is_start` or `is_end`.
    #[inline(never)]
    pub(super) fn closure(&self, state: usize, is_start: bool, is_end: bool) -> Set {
        let (mut seen, mut waiting) = (Set::default(), Set::default());
        let mut open = vec![state];
        while let Some(state) = open.pop() {
            if seen.contains(state) {
                continue;
            }
            seen.insert(state);
            let behind = state.saturating_add(1);
            match self.0.get(state) {
                Some(State::Start) if is_start => open.push(behind),
                Some(State::End) if is_end => open.push(behind),
                Some(State::Byte(_) | State::End | State::Accept) => waiting.insert(state),
                Some(State::Fork(one, other)) => open.extend([usize::from(*one), usize::from(*other)]),
                Some(State::Start) | None => {}
            }
        }
        waiting
    }
}

/// Set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Set([u64; MAX_STATES / 64]);

impl Set {
    #[inline(never)]
    pub(super) fn insert(&mut self, state: usize) {
        if let Some(word) = self.0.get_mut(state >> 6) {
            *word |= 1 << (state & 63);
        }
    }

    #[inline(never)]
    pub(super) fn contains(&self, state: usize) -> bool {
        self.0.get(state >> 6).is_some_and(|word| word >> (state & 63) & 1 == 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Intersection of two sets.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            core::iter::from_fn(move || {
                let bit = usize::try_from(rest.trailing_zeros()).ok().filter(|_| rest != 0)?;
                rest &= rest.wrapping_sub(1);
                Some(at << 6 | bit)
            })
        })
    }
}

struct Compiler {
    states: Vec<State>,
    /// Remaining compilation steps: nested repetitions of expressions without states would take too many.
    fuel: usize,
}

impl Compiler {
    fn expression(&mut self, expression: &Expression) -> Option<()> {
        self.fuel = self.fuel.checked_sub(1)?;
        match expression {
            Expression::Byte(class) => self.push(State::Byte(class.clone())).map(drop),
            Expression::Start => self.push(State::Start).map(drop),
            Expression::End => self.push(State::End).map(drop),
            Expression::Sequence(items) => items.iter().try_for_each(|item| self.expression(item)),
            Expression::Choice(branches) => self.choice(branches),
            Expression::Repeat { what, min, max } => self.repeat(what, *min, *max),
        }
    }

    fn choice(&mut self, branches: &[Expression]) -> Option<()> {
        let (last, others) = branches.split_last()?;
        let mut exits = Vec::with_capacity(others.len());
        for branch in others {
            let fork = self.push(State::Accept)?;
            self.expression(branch)?;
            exits.push(self.push(State::Accept)?);
            self.fork(fork, fork.checked_add(1)?, self.next()?);
        }
        self.expression(last)?;
        let end = self.next()?;
        exits.into_iter().for_each(|exit| self.fork(exit, end, end));
        Some(())
    }

    fn repeat(&mut self, what: &Expression, min: u16, max: Option<u16>) -> Option<()> {
        (0..min).try_for_each(|_| self.expression(what))?;
        let Some(max) = max else {
            let fork = self.push(State::Accept)?;
            self.expression(what)?;
            self.push(State::Fork(fork, fork))?;
            self.fork(fork, fork.checked_add(1)?, self.next()?);
            return Some(());
        };
        let optional = usize::from(max.saturating_sub(min));
        let mut forks = Vec::new();
        for _ in 0..optional {
            forks.push(self.push(State::Accept)?);
            self.expression(what)?;
        }
        let end = self.next()?;
        forks.into_iter().try_for_each(|fork| {
            self.fork(fork, fork.checked_add(1)?, end);
            Some(())
        })
    }

    /// Adds a state, and returns its number.
    fn push(&mut self, state: State) -> Option<u16> {
        let number = self.next()?;
        self.states.push(state);
        (self.states.len() <= MAX_STATES).then_some(number)
    }

    fn next(&self) -> Option<u16> {
        u16::try_from(self.states.len()).ok()
    }

    /// Replaces a placeholder state by a fork.
    fn fork(&mut self, state: u16, one: u16, other: u16) {
        if let Some(state) = self.states.get_mut(usize::from(state)) {
            *state = State::Fork(one, other);
        }
    }
}
