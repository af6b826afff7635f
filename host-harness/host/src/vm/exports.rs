//! Exports of a module: the callbacks of proxy-wasm 0.2.1. Each may be missing.

use std::path::Path;

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::VmError;
use crate::abi::state::HostState;

type Notify<P> = Option<Export<P, ()>>;
type Ask<P> = Option<Export<P, u32>>;

/// Callback with its export name.
#[derive(Clone)]
pub(crate) struct Export<P, R> {
    pub(super) name: &'static str,
    pub(super) function: TypedFunc<P, R>,
}

pub(crate) struct Exports {
    pub(super) initialize: Notify<()>,
    pub(super) start: Notify<()>,
    pub(super) allocate: Ask<u32>,
    pub(super) context_create: Notify<(u32, u32)>,
    pub(super) vm_start: Ask<(u32, u32)>,
    pub(super) configure: Ask<(u32, u32)>,
    pub(super) tick: Notify<u32>,
    pub(super) queue_ready: Notify<(u32, u32)>,
    pub(super) done: Ask<u32>,
    pub(super) log: Notify<u32>,
    pub(super) delete: Notify<u32>,
    /// Callback for request headers, then for response headers; `body` and `trailers` likewise.
    pub(super) headers: [Ask<(u32, u32, u32)>; 2],
    pub(super) body: [Ask<(u32, u32, u32)>; 2],
    pub(super) trailers: [Ask<(u32, u32)>; 2],
    pub(super) http_call_response: Notify<(u32, u32, u32, u32, u32)>,
    pub(super) grpc_initial_metadata: Notify<(u32, u32, u32)>,
    pub(super) grpc_receive: Notify<(u32, u32, u32)>,
    pub(super) grpc_trailing_metadata: Notify<(u32, u32, u32)>,
    pub(super) grpc_close: Notify<(u32, u32, u32)>,
}

impl Exports {
    pub(super) fn of(instance: &Instance, store: &mut Store<HostState>, path: &Path) -> Result<Self, VmError> {
        let known = ["proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];
        if !known.iter().any(|name| instance.get_func(&mut *store, name).is_some()) {
            return Err(VmError::Abi { path: path.to_owned() });
        }
        let mut find = Finder { instance, store, path };
        let allocate = find.export("proxy_on_memory_allocate")?;
        Ok(Self {
            initialize: find.export("_initialize")?,
            start: find.export("_start")?,
            allocate: if allocate.is_some() { allocate } else { find.export("malloc")? },
            context_create: find.export("proxy_on_context_create")?,
            vm_start: find.export("proxy_on_vm_start")?,
            configure: find.export("proxy_on_configure")?,
            tick: find.export("proxy_on_tick")?,
            queue_ready: find.export("proxy_on_queue_ready")?,
            done: find.export("proxy_on_done")?,
            log: find.export("proxy_on_log")?,
            delete: find.export("proxy_on_delete")?,
            headers: [find.export("proxy_on_request_headers")?, find.export("proxy_on_response_headers")?],
            body: [find.export("proxy_on_request_body")?, find.export("proxy_on_response_body")?],
            trailers: [find.export("proxy_on_request_trailers")?, find.export("proxy_on_response_trailers")?],
            http_call_response: find.export("proxy_on_http_call_response")?,
            grpc_initial_metadata: find.export("proxy_on_grpc_receive_initial_metadata")?,
            grpc_receive: find.export("proxy_on_grpc_receive")?,
            grpc_trailing_metadata: find.export("proxy_on_grpc_receive_trailing_metadata")?,
            grpc_close: find.export("proxy_on_grpc_close")?,
        })
    }
}

struct Finder<'a> {
    instance: &'a Instance,
    store: &'a mut Store<HostState>,
    path: &'a Path,
}

impl Finder<'_> {
    fn export<P: WasmParams, R: WasmResults>(&mut self, name: &'static str) -> Result<Option<Export<P, R>>, VmError> {
        let Some(function) = self.instance.get_func(&mut *self.store, name) else { return Ok(None) };
        let function = function.typed(&*self.store).map_err(|error| VmError::Instantiate {
            path: self.path.to_owned(),
            reason: format!("export `{name}`: {error:#}"),
        })?;
        Ok(Some(Export { name, function }))
    }
}
