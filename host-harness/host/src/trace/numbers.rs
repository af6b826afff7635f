//! Arguments and results of callbacks as numbers.

/// Arguments or results of a callback.
pub(crate) trait Numbers {
    /// Returns them in order.
    fn numbers(&self) -> Vec<u32>;
}

impl Numbers for () {
    fn numbers(&self) -> Vec<u32> {
        Vec::new()
    }
}

impl Numbers for u32 {
    fn numbers(&self) -> Vec<u32> {
        vec![*self]
    }
}

impl Numbers for (u32, u32) {
    fn numbers(&self) -> Vec<u32> {
        vec![self.0, self.1]
    }
}

impl Numbers for (u32, u32, u32) {
    fn numbers(&self) -> Vec<u32> {
        vec![self.0, self.1, self.2]
    }
}

impl Numbers for (u32, u32, u32, u32, u32) {
    fn numbers(&self) -> Vec<u32> {
        vec![self.0, self.1, self.2, self.3, self.4]
    }
}
