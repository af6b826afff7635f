//! The glue between the proxy and the rest of the filter: the only code that names `proxy_wasm`.
//!
//! One module plays two roles, told apart by `root_id`: `limiter` among a listener's HTTP filters, and `bridge`
//! among the upstream HTTP filters of the Redis cluster.

mod bridge;
mod host;
mod limiter;
mod worker;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

// The SDK's entry point is an unmangled symbol, which the lint counts as unsafe.
#[allow(unsafe_code)]
mod entry {
    proxy_wasm::main! {{ super::register(); }}
}

fn register() {
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(Root { id, role: None }));
}

/// A plugin instance before and after it has learned its role.
struct Root {
    id: u32,
    role: Option<Role>,
}

enum Role {
    Limiter(limiter::Root),
    Bridge,
}

impl Root {
    fn limiter(&mut self) -> Option<&mut limiter::Root> {
        match &mut self.role {
            Some(Role::Limiter(root)) => Some(root),
            _ => None,
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let root_id = host::property(&["plugin_root_id"]).unwrap_or_default();
        self.role = match root_id.as_slice() {
            b"limiter" => {
                let configuration = self.get_plugin_configuration().unwrap_or_default();
                limiter::Root::configure(self.id, &configuration).map(Role::Limiter)
            }
            b"bridge" => Some(Role::Bridge),
            other => {
                let other = String::from_utf8_lossy(other);
                log::error!("weir: root_id: expected \"limiter\" or \"bridge\", found {other:?}");
                None
            }
        };
        self.role.is_some()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        match &self.role {
            Some(Role::Limiter(root)) => Some(Box::new(root.request(id))),
            Some(Role::Bridge) => Some(Box::new(bridge::Bridge::default())),
            None => Some(Box::new(Unconfigured)),
        }
    }

    fn on_tick(&mut self) {
        if let Some(limiter) = self.limiter() {
            limiter.on_tick();
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, size: usize, _trailers: usize) {
        if let Some(limiter) = self.limiter() {
            limiter.on_callout_response(token, headers, size);
        }
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        if let Some(limiter) = self.limiter() {
            limiter.on_stream_message(token, size);
        }
    }

    fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
        if let Some(limiter) = self.limiter() {
            limiter.on_stream_close(token, status);
        }
    }
}

/// A request to a plugin that refused its configuration. Proxies do not send any; it lets them pass.
struct Unconfigured;

impl Context for Unconfigured {}
impl HttpContext for Unconfigured {}
