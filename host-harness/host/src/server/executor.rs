//! Executor of hyper's tasks on the worker's thread.

use std::future::Future;

/// Executor that spawns hyper's tasks on the worker's local set.
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
