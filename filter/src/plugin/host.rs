//! Calls to the proxy, in the forms that the contexts need.

use std::cell::OnceCell;
use std::time::Instant;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::descriptor::{Attributes, RequestBody};
use crate::units::Micros;

/// A request's attributes, as the effective context sees them. Values are bytes: a header need not be UTF-8.
///
/// Headers are read all at once, and once: asked for one by its name, Envoy gives only the first of several values
/// (seen in 1.40 over HTTP/1), behind which the one that counts could hide.
#[derive(Default)]
pub(super) struct RequestAttributes {
    /// The whole body, where it was waited for.
    body: Option<RequestBody>,
    headers: OnceCell<Vec<(String, Vec<u8>)>>,
}

impl RequestAttributes {
    pub(super) fn with_body(body: Option<RequestBody>) -> Self {
        Self { body, ..Self::default() }
    }
}

impl Attributes for RequestAttributes {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        let read = || hostcalls::get_map_bytes(MapType::HttpRequestHeaders).unwrap_or_default();
        let headers = self.headers.get_or_init(read);
        let mut values = headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let mut all = values.next()?.clone();
        for value in values {
            all.push(b',');
            all.extend_from_slice(value);
        }
        Some(all)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        property(path)
    }

    fn body(&self) -> Option<&RequestBody> {
        self.body.as_ref()
    }
}

/// A property of the effective context, if it has it.
pub(super) fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// A header of the callout's response that is being told. Only where it has headers: else the SDK panics.
pub(super) fn callout_header(name: &str) -> Option<Vec<u8>> {
    hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, name).ok().flatten()
}

/// Leaves a note with the request of the effective context: filter state, named `wasm.{name}` in Envoy.
pub(super) fn annotate(name: &str, note: &str) {
    // A proxy that keeps no such state loses a line of the access log, and nothing else.
    let _ = hostcalls::set_property(vec![name], Some(note.as_bytes()));
}

/// The first `size` bytes of a buffer; none where the proxy has none.
pub(super) fn buffer(kind: BufferType, size: usize) -> Vec<u8> {
    hostcalls::get_buffer(kind, 0, size).ok().flatten().unwrap_or_default()
}

/// Acts in the place of context `other`, then goes back to `own`. `None` where `other` is no more: acting
/// nonetheless would act on another request.
pub(super) fn on_behalf_of<T>(other: u32, own: u32, act: impl FnOnce() -> T) -> Option<T> {
    if other == own {
        return Some(act());
    }
    hostcalls::set_effective_context(other).ok()?;
    let result = act();
    let returned = hostcalls::set_effective_context(own);
    debug_assert!(returned.is_ok(), "the context that runs exists");
    Some(result)
}

/// The proxy's monotonic clock, counted from when it was first asked.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Micros {
        Micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
