//! Roles of the proxy's contexts: one root context per plugin and worker, one HTTP context per request or stream.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use super::Worker;
use super::bridge::Bridge;
use super::callback::variable;
use super::wire::Wire;
use super::{log_error, log_warning};
use crate::config;
use crate::host::{self, Action, Buffer};
use crate::table::Table;

/// All contexts of a VM. No cell stays borrowed while other code of the filter runs.
pub(crate) struct Contexts {
    /// Root contexts by id; a VM has a few.
    roots: RefCell<Vec<(u32, Role)>>,
    exchanges: RefCell<Table<Exchange>>,
}

/// Role of a root context, set by `root_id` when the plugin is configured.
#[derive(Clone)]
enum Role {
    Limiter(Rc<Worker>),
    Bridge,
}

/// Role of an HTTP context: a request that the limiter checks, or a stream that the bridge carries.
#[derive(Clone)]
enum Exchange {
    Limited(Rc<Worker>),
    Bridged(Rc<RefCell<Bridge>>),
}

impl Contexts {
    pub(crate) const fn new() -> Self {
        Self { roots: RefCell::new(Vec::new()), exchanges: RefCell::new(Table::new()) }
    }

    /// Handles a new HTTP context. A new root context is ignored: its role is unknown until it is configured. A context
    /// of a plugin that rejected its configuration would admit every request, but proxies send no requests to it.
    pub(crate) fn create(&self, context: u32, root: u32) {
        let exchange = match self.role(root) {
            Some(Role::Limiter(worker)) => Exchange::Limited(worker),
            Some(Role::Bridge) => Exchange::Bridged(Rc::default()),
            None => return,
        };
        self.exchanges.borrow_mut().insert(context, exchange);
    }

    /// Reads the plugin's configuration, of `size` bytes. Logs every error and returns `false` if there is one: the
    /// proxy then refuses the configuration.
    pub(crate) fn configure(&self, root: u32, size: usize) -> bool {
        let root_id = host::property(&["plugin_root_id"]).unwrap_or_default();
        let role = match root_id.as_slice() {
            b"limiter" => limiter(root, &host::buffer(Buffer::PluginConfiguration, size)).map(Role::Limiter),
            b"bridge" => Some(Role::Bridge),
            other => {
                let other = config::quoted(&String::from_utf8_lossy(other));
                log_error(&format!("root_id: expected \"limiter\" or \"bridge\", found {other}"));
                None
            }
        };
        self.forget_root(root);
        let mut roots = self.roots.borrow_mut();
        roots.extend(role.map(|role| (root, role)));
        roots.iter().any(|(known, _)| *known == root)
    }

    /// Handles the end of a context.
    pub(crate) fn done(&self, context: u32) {
        let exchange = self.exchanges.borrow_mut().remove(context);
        match exchange {
            Some(Exchange::Limited(worker)) => worker.done(context),
            Some(Exchange::Bridged(_)) => {}
            None => self.forget_root(context),
        }
    }

    pub(crate) fn request_headers(&self, context: u32, is_whole: bool) -> Action {
        match self.exchange(context) {
            Some(Exchange::Limited(worker)) => worker.request(context, is_whole),
            Some(Exchange::Bridged(bridge)) => {
                on(&bridge, |bridge| bridge.request_headers(self.wires()));
                Action::Continue
            }
            None => Action::Continue,
        }
    }

    pub(crate) fn request_body(&self, context: u32, size: usize, is_whole: bool) -> Action {
        match self.exchange(context) {
            Some(Exchange::Limited(worker)) => worker.request_body(context, size, is_whole),
            Some(Exchange::Bridged(bridge)) => on(&bridge, |bridge| bridge.request_body(size)).unwrap_or_default(),
            None => Action::Continue,
        }
    }

    pub(crate) fn request_trailers(&self, context: u32) -> Action {
        match self.exchange(context) {
            Some(Exchange::Limited(worker)) => worker.request_trailers(context),
            _ => Action::Continue,
        }
    }

    pub(crate) fn response_headers(&self, context: u32, is_headers_only: bool) -> Action {
        match self.exchange(context) {
            Some(Exchange::Limited(worker)) => worker.response_headers(context, is_headers_only),
            Some(Exchange::Bridged(bridge)) => on(&bridge, Bridge::response_headers).unwrap_or_default(),
            None => Action::Continue,
        }
    }

    pub(crate) fn response_body(&self, context: u32, size: usize, is_whole: bool) -> Action {
        match self.exchange(context) {
            Some(Exchange::Limited(worker)) => return worker.response_body(context, size, is_whole).of_body(),
            Some(Exchange::Bridged(bridge)) => {
                if let Some((worker, bytes)) = on(&bridge, |bridge| bridge.response_body(size)).flatten() {
                    worker.stream_bytes(context, &bytes);
                }
            }
            _ => {}
        }
        Action::Continue
    }

    pub(crate) fn response_trailers(&self, context: u32) -> Action {
        match self.exchange(context) {
            Some(Exchange::Limited(worker)) => worker.response_ends(context),
            _ => Action::Continue,
        }
    }

    /// Calls `run` with the worker of a root context, if the context is a limiter's.
    pub(crate) fn with_worker(&self, root: u32, run: impl FnOnce(&Worker)) {
        if let Some(Role::Limiter(worker)) = self.role(root) {
            run(&worker);
        }
    }

    fn forget_root(&self, root: u32) {
        self.with_worker(root, Worker::leave_gauge);
        self.roots.borrow_mut().retain(|(known, _)| *known != root);
    }

    fn role(&self, root: u32) -> Option<Role> {
        self.roots.borrow().iter().find(|(known, _)| *known == root).map(|(_, role)| role.clone())
    }

    fn exchange(&self, context: u32) -> Option<Exchange> {
        self.exchanges.borrow().get(context).cloned()
    }

    /// Returns the current streams of all workers of this VM.
    fn wires(&self) -> impl Iterator<Item = Wire> {
        let roots = self.roots.borrow();
        let wires = roots.iter().filter_map(|(_, role)| match role {
            Role::Limiter(worker) => Some(Wire::of(worker)),
            Role::Bridge => None,
        });
        wires.collect::<Vec<_>>().into_iter()
    }
}

/// Calls `run` with a bridge. `None` if the bridge is already borrowed, which is not known to happen: no host call of
/// the bridge calls it back.
fn on<T>(bridge: &RefCell<Bridge>, run: impl FnOnce(&mut Bridge) -> T) -> Option<T> {
    bridge.try_borrow_mut().ok().map(|mut bridge| run(&mut bridge))
}

fn limiter(root: u32, configuration: &[u8]) -> Option<Rc<Worker>> {
    match config::parse(configuration, &variable) {
        Ok(config) => {
            config.notices.iter().for_each(|notice| log_warning(&notice.to_string()));
            Worker::new(root, config).map(Rc::new)
        }
        Err(errors) => {
            errors.iter().for_each(|error| log_error(&error.to_string()));
            None
        }
    }
}
