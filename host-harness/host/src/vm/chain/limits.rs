//! Limits of what a filter chain keeps: its peers wait while it is full.

use bytes::BytesMut;

use super::Chain;
use super::passage::Stage;
use crate::http::Direction;

/// Number of response outputs waiting for a slow downstream at which the upstream stops being read.
const BACKLOG: usize = 32;

impl Chain {
    /// Whether the upstream should not be read: the response output that waits has reached [`BACKLOG`], or the response
    /// that filters hold and that waits is longer than the buffer limit.
    pub(crate) fn is_full(&self) -> bool {
        let is_full = self.outputs(Direction::Response).len() >= BACKLOG
            || self.waiting_bytes(Direction::Response) > self.buffer_limit;
        is_full && !self.is_replied()
    }

    /// Whether the request that filters hold and that waits to be sent is longer than the buffer limit.
    pub(crate) fn is_request_full(&self) -> bool {
        self.waiting_bytes(Direction::Request) > self.buffer_limit
    }

    /// Length in bytes of the body of a direction that filters hold, or that waits to be taken.
    fn waiting_bytes(&self, direction: Direction) -> usize {
        let held = self.lane(direction).borrow().iter().map(Stage::held_bytes).sum::<usize>();
        let views = self.stream.views.borrow();
        let shown = views.iter().filter_map(|view| view.bodies.get(direction as usize)).map(BytesMut::len);
        held + shown.sum::<usize>() + self.outputs(direction).bytes()
    }

    /// Length in bytes of the request's body that waits to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.outputs(Direction::Request).bytes()
    }

    /// Length in bytes of the bodies that filters hold, or that wait to be taken.
    pub(crate) fn held_bytes(&self) -> usize {
        self.waiting_bytes(Direction::Request) + self.waiting_bytes(Direction::Response)
    }

    /// Returns when output of a direction has been taken.
    pub(crate) async fn has_drained(&self, direction: Direction) {
        self.drained(direction).notified().await;
    }
}
