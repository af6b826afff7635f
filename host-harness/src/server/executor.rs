//! hyper's tasks on a worker's own thread.

use std::future::Future;

/// Runs what hyper spawns as tasks of the worker's local set.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
