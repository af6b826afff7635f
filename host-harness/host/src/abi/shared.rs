//! State shared by VMs across workers: data with compare-and-swap and queues, scoped by `vm_id`, and metrics.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::memory::Status;
use crate::stats::Registry;

/// Shared state of one host.
#[derive(Default)]
pub(crate) struct Shared {
    data: Mutex<HashMap<(String, Vec<u8>), Entry>>,
    queues: Mutex<Queues>,
    pub(crate) stats: Registry,
}

struct Entry {
    value: Vec<u8>,
    cas: u32,
}

#[derive(Default)]
struct Queues {
    tokens: HashMap<(String, String), u32>,
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Vec<u8>>,
    /// Root contexts that registered the queue, notified in turn: one for each new item.
    listeners: Vec<(QueueInbox, u32)>,
    turn: usize,
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
                *entry = Entry { value, cas: entry.cas.wrapping_add(1).max(1) };
                Ok(())
            }
            None => {
                data.insert((vm_id.to_owned(), key.to_vec()), Entry { value, cas: 1 });
                Ok(())
            }
        }
    }

    pub(crate) fn register_queue(&self, vm_id: &str, name: &str, inbox: Option<QueueInbox>, root: u32) -> u32 {
        let mut queues = held(&self.queues);
        let next = u32::try_from(queues.queues.len()).unwrap_or(u32::MAX - 1) + 1;
        let token = *queues.tokens.entry((vm_id.to_owned(), name.to_owned())).or_insert(next);
        if token == next {
            queues.queues.push(Queue::default());
        }
        if let (Some(inbox), Some(queue)) = (inbox, queues.get(token)) {
            queue.listeners.push((inbox, root));
        }
        token
    }

    pub(crate) fn resolve_queue(&self, vm_id: &str, name: &str) -> Option<u32> {
        held(&self.queues).tokens.get(&(vm_id.to_owned(), name.to_owned())).copied()
    }

    pub(crate) fn enqueue(&self, token: u32, item: Vec<u8>) -> Result<(), Status> {
        let mut queues = held(&self.queues);
        let queue = queues.get(token).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        // Listeners of ended workers are removed on the way.
        while !queue.listeners.is_empty() {
            let index = queue.turn % queue.listeners.len();
            queue.turn = queue.turn.wrapping_add(1);
            let Some((inbox, root)) = queue.listeners.get(index) else { break };
            if inbox.worker.send(QueueReady { vm: inbox.vm, root: *root, queue: token }).is_ok() {
                break;
            }
            queue.listeners.remove(index);
        }
        Ok(())
    }

    pub(crate) fn dequeue(&self, token: u32) -> Result<Vec<u8>, Status> {
        held(&self.queues).get(token).ok_or(Status::NotFound)?.items.pop_front().ok_or(Status::Empty)
    }

    /// Removes the queue listeners of a VM that has ended.
    pub(crate) fn forget_vm(&self, vm: u64) {
        for queue in &mut held(&self.queues).queues {
            queue.listeners.retain(|(inbox, _)| inbox.vm != vm);
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
