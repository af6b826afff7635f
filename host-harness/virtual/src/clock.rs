//! Virtual clock, shared by all parts of a mesh.

use std::cell::Cell;
use std::rc::Rc;

use weir_filter::units::Micros;

/// Clock that stands still until it is set. Clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock(Rc<Cell<Micros>>);

impl Clock {
    /// Returns a clock at `unix`: the time since 1970-01-01T00:00Z.
    #[must_use]
    pub fn at(unix: Micros) -> Self {
        Self(Rc::new(Cell::new(unix)))
    }

    /// Time since 1970-01-01T00:00Z.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.0.get()
    }

    /// Sets the clock, also back: as the clocks of machines are.
    pub fn set(&self, unix: Micros) {
        self.0.set(unix);
    }

    /// Moves the clock on to `time`; a time in the past changes nothing.
    pub(crate) fn move_on(&self, time: Micros) {
        self.0.set(self.now().max(time));
    }
}
