//! From an expression to the states of a machine, and its run.

use alloc::vec::Vec;

use super::parse::{Class, Expression};

/// The most states of a machine.
pub(super) const MAX_STATES: usize = 256;

/// A machine that starts in its first state and accepts in `Accept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(Vec<State>);

/// What leads out of a state. The next state is the one behind it, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A byte of these.
    Byte(Class),
    /// Nothing, at the text's start.
    Start,
    /// Nothing, at the text's end.
    End,
    /// Nothing, to either.
    Fork(u16, u16),
    /// Nothing is left to match.
    Accept,
}

impl Program {
    /// `None` where it has too many states.
    pub(super) fn compile(expression: &Expression) -> Option<Self> {
        let mut compiler = Compiler { states: Vec::new(), fuel: MAX_STATES.saturating_mul(16) };
        compiler.expression(expression)?;
        compiler.push(State::Accept)?;
        Some(Self(compiler.states))
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let mut here = States::default();
        let mut next = States::default();
        self.enter(&mut here, 0, true, text.is_empty());
        for (i, byte) in text.iter().enumerate() {
            if here.entered.is_empty() {
                return false;
            }
            let is_last = i.saturating_add(1) == text.len();
            next.clear();
            for &state in &here.entered {
                if let Some(State::Byte(class)) = self.0.get(usize::from(state))
                    && class.contains(*byte)
                {
                    self.enter(&mut next, state.saturating_add(1), false, is_last);
                }
            }
            core::mem::swap(&mut here, &mut next);
        }
        here.entered.iter().any(|state| matches!(self.0.get(usize::from(*state)), Some(State::Accept)))
    }

    /// Enters a state, and those that nothing stands before.
    fn enter(&self, states: &mut States, state: u16, is_start: bool, is_end: bool) {
        let mut open = vec![state];
        while let Some(state) = open.pop() {
            if !states.is_new(state) {
                continue;
            }
            let behind = state.saturating_add(1);
            match self.0.get(usize::from(state)) {
                Some(State::Byte(_) | State::Accept) => states.entered.push(state),
                Some(State::Start) if is_start => open.push(behind),
                Some(State::End) if is_end => open.push(behind),
                Some(State::Fork(one, other)) => open.extend([*one, *other]),
                Some(State::Start | State::End) | None => {}
            }
        }
    }
}

/// Which states a machine is in: those with a byte to come, or none.
#[derive(Default)]
struct States {
    entered: Vec<u16>,
    seen: [u64; MAX_STATES / 64],
}

impl States {
    fn clear(&mut self) {
        self.entered.clear();
        self.seen = Default::default();
    }

    fn is_new(&mut self, state: u16) -> bool {
        let Some(word) = self.seen.get_mut(usize::from(state >> 6)) else { return false };
        let bit = 1 << (state & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

struct Compiler {
    states: Vec<State>,
    /// Repetitions of what has no states could go on for ever.
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

    /// Adds a state: its number.
    fn push(&mut self, state: State) -> Option<u16> {
        let number = self.next()?;
        self.states.push(state);
        (self.states.len() <= MAX_STATES).then_some(number)
    }

    fn next(&self) -> Option<u16> {
        u16::try_from(self.states.len()).ok()
    }

    /// Says where a state that was kept free leads.
    fn fork(&mut self, state: u16, one: u16, other: u16) {
        if let Some(state) = self.states.get_mut(usize::from(state)) {
            *state = State::Fork(one, other);
        }
    }
}
