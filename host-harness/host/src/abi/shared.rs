//! State shared by VMs across workers: data with compare-and-swap and queues, scoped by `vm_id`, and metrics.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::limits::Storage;
use super::memory::Status;
use crate::stats::Registry;
use crate::trace::Tracing;

/// Shared state of one host.
#[derive(Default)]
pub(crate) struct Shared {
    data: Mutex<HashMap<(String, Vec<u8>), Entry>>,
    queues: Mutex<Queues>,
    pub(crate) stats: Registry,
    pub(crate) storage: Storage,
    pub(crate) tracing: Tracing,
}

struct Entry {
    value: Vec<u8>,
    cas: u32,
}

#[derive(Default)]
struct Queues {
    tokens: HashMap<(Vec<u8>, Vec<u8>), u32>,
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Vec<u8>>,
    /// Root context that registered the queue last: it is notified of each new item, as in Envoy.
    listener: Option<(QueueInbox, u32)>,
}

/// Sender of queue notifications to one VM of one worker.
#[derive(Clone)]
pub(crate) struct QueueInbox {
    pub(crate) vm: u64,
    pub(crate) worker: UnboundedSender<QueueReady>,
}

/// Notification to a root context of a VM: a queue has a new item.
pub(crate) struct QueueReady {
    pub(crate) vm: u64,
    pub(crate) root: u32,
    pub(crate) queue: u32,
}

impl Shared {
    /// Creates the state of a host that keeps at most `limit` bytes for its modules.
    pub(crate) fn new(limit: usize, tracing: Tracing) -> Self {
        Self { storage: Storage::new(limit), tracing, ..Self::default() }
    }

    pub(crate) fn data(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        let data = held(&self.data);
        data.get(&(vm_id.to_owned(), key.to_vec())).map(|entry| (entry.value.clone(), entry.cas))
    }

    /// Writes a value. `cas` 0 overwrites any value; another `cas` has to match the value's, if there is one.
    pub(crate) fn set_data(&self, vm_id: &str, key: &[u8], value: Vec<u8>, cas: u32) -> Result<(), Status> {
        let mut data = held(&self.data);
        match data.get_mut(&(vm_id.to_owned(), key.to_vec())) {
            Some(entry) if cas != 0 && cas != entry.cas => Err(Status::CasMismatch),
            Some(entry) => {
                self.storage.keep(value.len())?;
                self.storage.release(entry.value.len());
                *entry = Entry { value, cas: entry.cas.wrapping_add(1).max(1) };
                Ok(())
            }
            None => {
                self.storage.keep(key.len().saturating_add(value.len()))?;
                data.insert((vm_id.to_owned(), key.to_vec()), Entry { value, cas: 1 });
                Ok(())
            }
        }
    }

    /// Registers a root context as the listener of a queue, and creates the queue if it does not exist.
    ///
    /// The latest registration replaces those of other root contexts, VMs and workers.
    pub(crate) fn register_queue(
        &self,
        vm_id: &str,
        name: &[u8],
        inbox: Option<QueueInbox>,
        root: u32,
    ) -> Result<u32, Status> {
        let mut queues = held(&self.queues);
        let key = (vm_id.as_bytes().to_owned(), name.to_owned());
        let token = match queues.tokens.get(&key) {
            Some(token) => *token,
            None => {
                self.storage.keep(name.len())?;
                queues.queues.push(Queue::default());
                let token = u32::try_from(queues.queues.len()).map_err(|_| Status::InternalFailure)?;
                queues.tokens.insert(key, token);
                token
            }
        };
        if let (Some(inbox), Some(queue)) = (inbox, queues.get(token)) {
            queue.listener = Some((inbox, root));
        }
        Ok(token)
    }

    pub(crate) fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        held(&self.queues).tokens.get(&(vm_id.to_owned(), name.to_owned())).copied()
    }

    pub(crate) fn enqueue(&self, token: u32, item: Vec<u8>) -> Result<(), Status> {
        let mut queues = held(&self.queues);
        let queue = queues.get(token).ok_or(Status::NotFound)?;
        self.storage.keep(item.len())?;
        queue.items.push_back(item);
        if let Some((inbox, root)) = &queue.listener {
            // A worker that has ended has no listener.
            let _ = inbox.worker.send(QueueReady { vm: inbox.vm, root: *root, queue: token });
        }
        Ok(())
    }

    pub(crate) fn dequeue(&self, token: u32) -> Result<Vec<u8>, Status> {
        let item = held(&self.queues).get(token).ok_or(Status::NotFound)?.items.pop_front().ok_or(Status::Empty)?;
        self.storage.release(item.len());
        Ok(item)
    }

    /// Removes the registrations of queues of a VM that has ended.
    pub(crate) fn forget_vm(&self, vm: u64) {
        for queue in &mut held(&self.queues).queues {
            queue.listener.take_if(|(inbox, _)| inbox.vm == vm);
        }
    }
}

impl Queues {
    fn get(&mut self, token: u32) -> Option<&mut Queue> {
        self.queues.get_mut((token as usize).checked_sub(1)?)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
