//! Exports of a module: the callbacks of proxy-wasm. Each may be missing, except the allocator.

use std::path::Path;

use wasmtime::{Instance, Store, TypedFunc, WasmParams, WasmResults};

use super::VmError;
use crate::abi::state::HostState;
use crate::abi::version::Abi;

type Notify<P> = Option<Export<P, ()>>;
type Ask<P> = Option<Export<P, u32>>;

/// Callback with its export name.
#[derive(Clone)]
pub(crate) struct Export<P, R> {
    pub(super) name: &'static str,
    pub(super) function: TypedFunc<P, R>,
}

/// Callback for headers; ABI 0.1.0 passes no `end_of_stream`.
pub(super) enum HeadersExport {
    WithEnd(Export<(u32, u32, u32), u32>),
    WithoutEnd(Export<(u32, u32), u32>),
}

/// Initialisation of a module, as WASI defines it.
pub(super) enum Start {
    None,
    /// `_start` of a command.
    Command(Export<(), ()>),
    /// `_initialize` of a reactor, then `main`, by which SDKs register their contexts.
    Reactor(Export<(), ()>, Main),
}

pub(super) enum Main {
    None,
    /// `main` with a number of arguments and their place.
    WithArguments(Export<(u32, u32), u32>),
    /// `__main_void`.
    Void(Export<(), u32>),
}

pub(crate) struct Exports {
    pub(super) start: Start,
    pub(super) allocate: Export<u32, u32>,
    pub(super) context_create: Notify<(u32, u32)>,
    pub(super) vm_start: Ask<(u32, u32)>,
    pub(super) configure: Ask<(u32, u32)>,
    pub(super) tick: Notify<u32>,
    pub(super) queue_ready: Notify<(u32, u32)>,
    pub(super) done: Ask<u32>,
    pub(super) log: Notify<u32>,
    pub(super) delete: Notify<u32>,
    /// Callback for request headers, then for response headers; `body` and `trailers` likewise.
    pub(super) headers: [Option<HeadersExport>; 2],
    pub(super) body: [Ask<(u32, u32, u32)>; 2],
    pub(super) trailers: [Ask<(u32, u32)>; 2],
    pub(super) http_call_response: Notify<(u32, u32, u32, u32, u32)>,
    pub(super) grpc_initial_metadata: Notify<(u32, u32, u32)>,
    pub(super) grpc_receive: Notify<(u32, u32, u32)>,
    pub(super) grpc_trailing_metadata: Notify<(u32, u32, u32)>,
    pub(super) grpc_close: Notify<(u32, u32, u32)>,
}

impl Exports {
    pub(super) fn of(
        instance: &Instance,
        store: &mut Store<HostState>,
        abi: Abi,
        path: &Path,
    ) -> Result<Self, VmError> {
        let mut find = Finder { instance, store, path };
        let malloc = find.export("malloc")?;
        let allocate = if malloc.is_some() { malloc } else { find.export("proxy_on_memory_allocate")? };
        Ok(Self {
            start: find.start()?,
            allocate: allocate.ok_or_else(|| VmError::Instantiate {
                path: path.to_owned(),
                reason: "expected an export `malloc` or `proxy_on_memory_allocate`, found neither".to_owned(),
            })?,
            context_create: find.export("proxy_on_context_create")?,
            vm_start: find.export("proxy_on_vm_start")?,
            configure: find.export("proxy_on_configure")?,
            tick: find.export("proxy_on_tick")?,
            queue_ready: find.export("proxy_on_queue_ready")?,
            done: find.export("proxy_on_done")?,
            log: find.export("proxy_on_log")?,
            delete: find.export("proxy_on_delete")?,
            headers: [find.headers(abi, "proxy_on_request_headers")?, find.headers(abi, "proxy_on_response_headers")?],
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

impl Start {
    /// Initialises the module; its start-up functions may call `proxy_log` and WASI's functions only.
    pub(super) fn run(&self, store: &mut Store<HostState>) -> wasmtime::Result<()> {
        match self {
            Self::None => {}
            Self::Command(start) => start.function.call(&mut *store, ())?,
            Self::Reactor(initialize, main) => {
                initialize.function.call(&mut *store, ())?;
                match main {
                    Main::None => {}
                    Main::WithArguments(main) => drop(main.function.call(&mut *store, (0, 0))?),
                    Main::Void(main) => drop(main.function.call(&mut *store, ())?),
                }
            }
        }
        let state = store.data_mut();
        state.initializing = false;
        if state.called_too_early {
            return Err(wasmtime::format_err!(
                "the module called a host function other than `proxy_log` and WASI's while it was initialised"
            ));
        }
        Ok(())
    }
}

struct Finder<'a> {
    instance: &'a Instance,
    store: &'a mut Store<HostState>,
    path: &'a Path,
}

impl Finder<'_> {
    fn start(&mut self) -> Result<Start, VmError> {
        let Some(initialize) = self.export("_initialize")? else {
            return Ok(self.export("_start")?.map_or(Start::None, Start::Command));
        };
        let main = match self.export("main")? {
            Some(main) => Main::WithArguments(main),
            None => self.export("__main_void")?.map_or(Main::None, Main::Void),
        };
        Ok(Start::Reactor(initialize, main))
    }

    fn headers(&mut self, abi: Abi, name: &'static str) -> Result<Option<HeadersExport>, VmError> {
        Ok(match abi {
            Abi::V0_1_0 => self.export(name)?.map(HeadersExport::WithoutEnd),
            Abi::V0_2_0 | Abi::V0_2_1 => self.export(name)?.map(HeadersExport::WithEnd),
        })
    }

    fn export<P: WasmParams, R: WasmResults>(&mut self, name: &'static str) -> Result<Option<Export<P, R>>, VmError> {
        let Some(function) = self.instance.get_func(&mut *self.store, name) else { return Ok(None) };
        let function = function.typed(&*self.store).map_err(|error| VmError::Instantiate {
            path: self.path.to_owned(),
            reason: format!("export `{name}`: {error:#}"),
        })?;
        Ok(Some(Export { name, function }))
    }
}
