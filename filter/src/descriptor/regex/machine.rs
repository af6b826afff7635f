//! Machine: runs a program on a text, by a transition table if that is small, else by sets of states.
//!
//! The machine follows all possible states at once (K. Thompson, 1968). Usually few sets of states can occur; they are
//! tabulated at compile time, and a step is a table lookup. If there are many, as for `(a|b)*a(a|b){20}`, each step
//! computes the next set.

use alloc::vec::Vec;

use super::program::{Program, Set, State};

/// Maximum size of a table in bytes: one byte for each state and byte class.
const MAX_TABLE: usize = 4_096;
/// Work of one step by the table.
const TABLE_STEP: usize = 24;
/// Work of one step by sets of states.
const SET_STEP: usize = 150;
/// Work of each state in such a step.
const SET_STATE: usize = 100;

/// Machine of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// Class of each byte. The program treats all bytes of a class alike.
    classes: Vec<u8>,
    engine: Engine,
    matches_empty: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Engine {
    Table(Table),
    Sets(Sets),
}

/// Deterministic machine. State 0 is the dead state, state 1 the start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    /// Next state for each state and class, states first.
    next: Vec<u8>,
    classes: usize,
    accepting: Set,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sets {
    start: Set,
    /// States that wait for a byte of each class.
    waiting: Vec<Set>,
    /// States that follow each state.
    behind: Vec<Set>,
    accepting: Set,
}

impl Machine {
    pub(super) fn new(program: &Program) -> Self {
        let mut waiting = Vec::new();
        let classes = (0..=u8::MAX).map(|byte| class(program, byte, &mut waiting)).collect();
        let accepts = |state, is_start| {
            program
                .closure(state, is_start, true)
                .iter()
                .any(|state| matches!(program.states().get(state), Some(State::Accept)))
        };
        let states = 0..program.states().len();
        let mut accepting = Set::default();
        for (state, kind) in program.states().iter().enumerate() {
            if matches!(kind, State::End | State::Accept) && accepts(state, false) {
                accepting.insert(state);
            }
        }
        let sets = Sets {
            start: program.closure(0, true, false),
            waiting,
            behind: states.map(|state| program.closure(state.saturating_add(1), false, false)).collect(),
            accepting,
        };
        let matches_empty = accepts(0, true);
        let engine = sets.tabulated().map_or(Engine::Sets(sets), Engine::Table);
        Self { classes, engine, matches_empty }
    }

    /// Whether the whole `text` matches. `None` if `work` does not suffice.
    pub(super) fn matches(&self, text: &[u8], work: &mut usize) -> Option<bool> {
        if text.is_empty() {
            return Some(self.matches_empty);
        }
        match &self.engine {
            Engine::Table(table) => table.matches(&self.classes, text, work),
            Engine::Sets(sets) => sets.matches(&self.classes, text, work),
        }
    }
}

/// Returns the class of a byte: the index in `waiting` of the states that wait for it.
fn class(program: &Program, byte: u8, waiting: &mut Vec<Set>) -> u8 {
    let mut states = Set::default();
    for (state, kind) in program.states().iter().enumerate() {
        if matches!(kind, State::Byte(class) if class.contains(byte)) {
            states.insert(state);
        }
    }
    let known = waiting.iter().position(|known| *known == states);
    let class = known.unwrap_or_else(|| {
        waiting.push(states);
        waiting.len().saturating_sub(1)
    });
    u8::try_from(class).unwrap_or_default()
}

impl Table {
    fn matches(&self, classes: &[u8], text: &[u8], work: &mut usize) -> Option<bool> {
        let affordable = text.get(..*work / TABLE_STEP).unwrap_or(text);
        let (mut state, mut steps) = (1_u8, affordable.len());
        // A plain loop: it runs for each byte, and iterators that are not inlined take four times as long.
        for (nth, &byte) in affordable.iter().enumerate() {
            let class = *classes.get(usize::from(byte))?;
            let at = usize::from(state).wrapping_mul(self.classes).wrapping_add(usize::from(class));
            state = *self.next.get(at)?;
            if state == 0 {
                steps = nth.saturating_add(1);
                break;
            }
        }
        *work = work.saturating_sub(steps.saturating_mul(TABLE_STEP));
        match state {
            0 => Some(false),
            _ => (affordable.len() == text.len()).then(|| self.accepting.contains(state.into())),
        }
    }
}

impl Sets {
    fn matches(&self, classes: &[u8], text: &[u8], work: &mut usize) -> Option<bool> {
        let mut here = self.start;
        for &byte in text {
            let (next, states) = self.step(&here, classes.get(usize::from(byte)).copied().unwrap_or_default().into());
            *work = work.checked_sub(SET_STEP.saturating_add(states.saturating_mul(SET_STATE)))?;
            if next.is_empty() {
                return Some(false);
            }
            here = next;
        }
        Some(!here.and(&self.accepting).is_empty())
    }

    /// Returns the states after a byte of this class, and the number of states in `here` that waited for it.
    fn step(&self, here: &Set, class: usize) -> (Set, usize) {
        let (mut next, mut states) = (Set::default(), 0_usize);
        let Some(waiting) = self.waiting.get(class) else { return (next, states) };
        for behind in here.and(waiting).iter().filter_map(|state| self.behind.get(state)) {
            next.add(behind);
            states = states.saturating_add(1);
        }
        (next, states)
    }

    /// Tabulates the machine. `None` if the table is too large.
    fn tabulated(&self) -> Option<Table> {
        let classes = self.waiting.len();
        let mut known = vec![Set::default(), self.start];
        let mut next = vec![0; classes];
        let mut state = 1;
        while let Some(here) = known.get(state).copied() {
            for class in 0..classes {
                let (after, _) = self.step(&here, class);
                let found = known.iter().position(|set| *set == after);
                let number = found.unwrap_or_else(|| {
                    known.push(after);
                    known.len().saturating_sub(1)
                });
                next.push(u8::try_from(number).ok()?);
            }
            if next.len() > MAX_TABLE {
                return None;
            }
            state = state.saturating_add(1);
        }
        let mut accepting = Set::default();
        let accepts = known.iter().enumerate().filter(|(_, set)| !set.and(&self.accepting).is_empty());
        accepts.for_each(|(state, _)| accepting.insert(state));
        Some(Table { next, classes, accepting })
    }
}
