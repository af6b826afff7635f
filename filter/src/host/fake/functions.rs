//! The proxy's functions, as the worker calls them.

use super::*;

/// The host of this thread, as the worker calls it.
pub(super) struct Fake;

impl Host for Fake {
    fn log(&self, level: Level, line: &str) {
        record(|_| Call::Log(format!("{level:?} {line}")));
    }

    fn monotonic_nanos(&self) -> u64 {
        with(|state| state.nanos)
    }

    fn environment(&self) -> Vec<u8> {
        Vec::new()
    }

    fn set_effective_context(&self, context: u32) -> Result<(), HostError> {
        with(|state| {
            let is_live = state.live.contains(&context);
            if is_live {
                state.effective = context;
            }
            done(is_live)
        })
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), HostError> {
        record(|_| Call::SetTickPeriod(milliseconds));
        Ok(())
    }

    fn buffer(&self, buffer: Buffer, size: usize) -> Vec<u8> {
        let mut bytes = with(|state| state.buffers.get(&(buffer as u32)).cloned()).unwrap_or_default();
        bytes.truncate(size);
        bytes
    }

    fn replace_buffer(&self, buffer: Buffer, _size: usize, bytes: &[u8]) -> Result<(), HostError> {
        with(|state| state.buffers.insert(buffer as u32, bytes.to_vec()));
        Ok(())
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let root_id = || with(|state| state.root_ids.get(&state.effective).map(|id| id.as_bytes().to_vec()));
        (path == ["plugin_root_id"]).then(root_id).flatten()
    }

    fn set_property(&self, name: &str, _value: &str) -> Result<(), HostError> {
        record(|context| Call::SetProperty(context, name.to_owned()));
        Ok(())
    }

    fn resume_request(&self) -> Result<(), HostError> {
        record(Call::Resume);
        Ok(())
    }

    fn resume_response(&self) -> Result<(), HostError> {
        record(Call::ResumeResponse);
        Ok(())
    }

    fn send_local_response(
        &self,
        status: u16,
        _details: &str,
        _headers: &[u8],
        _body: &[u8],
        _grpc_status: Option<u32>,
    ) -> Result<(), HostError> {
        record(|context| Call::Answer(context, status.into()));
        Ok(())
    }

    fn http_call(&self, _cluster: &str, _headers: &[u8], _body: &[u8], _timeout: u32) -> Result<u32, HostError> {
        record(Call::Callout);
        refused()?;
        with(|state| {
            state.last_token += 1;
            Ok(state.last_token)
        })
    }

    fn open_stream(&self, _cluster: &str, service: &str, method: &str) -> Result<u32, HostError> {
        refused()?;
        let token = with(|state| {
            state.last_token += 1;
            state.stream = Some((state.last_token, state.effective));
            state.live.insert(BRIDGED);
            let path = format!("/{service}/{method}");
            state.request_headers.insert(BRIDGED, pairs::encode([(":path", path.as_str())].into_iter()));
            state.last_token
        });
        record(|_| Call::OpenStream(token));
        Proxy::call(BRIDGED, |contexts| {
            contexts.create(BRIDGED, BRIDGE);
            contexts.request_headers(BRIDGED, false)
        });
        Ok(token)
    }

    /// Sends a message, and runs the bridge's callback of it before it returns.
    fn send(&self, stream: u32, message: &[u8]) -> Result<(), HostError> {
        let effective = with(|state| state.effective);
        done(with(|state| state.stream) == Some((stream, effective)))?;
        let mut framed = Vec::new();
        framing::frame(message, core::num::NonZeroUsize::MAX, &mut framed);
        with(|state| state.buffers.insert(Buffer::RequestBody as u32, framed.clone()));
        Proxy::call(BRIDGED, |contexts| contexts.request_body(BRIDGED, framed.len(), false));
        let passed_on = with(|state| state.buffers.remove(&(Buffer::RequestBody as u32))).unwrap_or_default();
        record(|context| Call::Send(context, passed_on));
        Ok(())
    }

    fn cancel_stream(&self, stream: u32) -> Result<(), HostError> {
        with(|state| state.stream = None);
        record(|_| Call::CancelStream(stream));
        Ok(())
    }

    fn close_stream(&self, stream: u32) -> Result<(), HostError> {
        record(|_| Call::CloseStream(stream));
        Ok(())
    }

    fn register_queue(&self, _name: &str) -> Result<u32, HostError> {
        Ok(QUEUE)
    }

    fn enqueue(&self, _queue: u32) -> Result<(), HostError> {
        with(|state| state.queued += 1);
        record(|_| Call::Enqueue);
        Ok(())
    }

    fn dequeue(&self, _queue: u32) -> Option<Vec<u8>> {
        with(|state| {
            state.queued = state.queued.checked_sub(1)?;
            Some(Vec::new())
        })
    }

    fn random(&self) -> Option<u64> {
        getrandom::u64().ok()
    }

    fn headers(&self, headers: Headers) -> Vec<u8> {
        headers::headers(headers)
    }

    fn header(&self, map: Headers, name: &str) -> Option<Vec<u8>> {
        headers::header(map, name)
    }

    fn set_header(&self, headers: Headers, name: &str, value: &str) -> Result<(), HostError> {
        headers::set_header(headers, name, value)
    }

    fn remove_header(&self, headers: Headers, name: &str) -> Result<(), HostError> {
        headers::remove_header(headers, name)
    }

    fn define_metric(&self, kind: Metric, name: &str) -> Result<u32, HostError> {
        metrics::define_metric(kind, name)
    }

    fn increment(&self, metric: u32, offset: i64) -> Result<(), HostError> {
        metrics::increment(metric, offset)
    }

    fn record_value(&self, histogram: u32, value: u64) -> Result<(), HostError> {
        metrics::record_value(histogram, value)
    }
}
