//! Host functions of a worker: they record what is to happen, and the worker's events carry it out.

use std::num::NonZeroU32;

use weir_filter::native::{Buffer, Headers, Host, HostError, Level, Metric, decode_pairs, encode_pairs};
use weir_filter::units::Micros;

use super::state::{Event, LIMITER, LocalReply, Phase, QUEUE, Request, Shared, State, Stream, Way};
use crate::Redis;
use crate::exchange::{remove, set};
use crate::front_end;
use crate::resp::{Commands, encode};

/// Bytes of replies in one message of a stream, at most: the bridge cuts them so.
const MAX_MESSAGE: usize = 2_048;
/// Status of a callout to a cluster without a healthy endpoint.
const UNAVAILABLE: u16 = 503;

impl Host for Shared {
    fn log(&self, level: Level, line: &str) {
        self.with(|state| state.log.push((level, line.to_owned())));
    }

    fn monotonic_nanos(&self) -> u64 {
        self.now().0.saturating_mul(1_000)
    }

    fn random(&self) -> Option<u64> {
        Some(self.seed)
    }

    fn environment(&self) -> Vec<u8> {
        self.environment.clone()
    }

    fn set_effective_context(&self, context: u32) -> Result<(), HostError> {
        self.with(|state| {
            let is_live = context == LIMITER || state.requests.contains_key(&context);
            if is_live {
                state.effective = context;
            }
            done(is_live)
        })
    }

    fn set_tick_period(&self, milliseconds: u32) -> Result<(), HostError> {
        let period = Micros::from_millis(milliseconds.into());
        let next = self.now().plus(period);
        self.with(|state| state.tick = (milliseconds > 0).then_some((period, next)));
        Ok(())
    }

    fn buffer(&self, buffer: Buffer, size: usize) -> Vec<u8> {
        let mut bytes = self.with(|state| state.buffers.get(&buffer).cloned()).unwrap_or_default();
        bytes.truncate(size);
        bytes
    }

    fn headers(&self, headers: Headers) -> Vec<u8> {
        self.with(|state| {
            let list = state.acting().and_then(|request| request.map(headers)).cloned().unwrap_or_default();
            encode_pairs(list.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())))
        })
    }

    fn header(&self, headers: Headers, name: &str) -> Option<Vec<u8>> {
        self.with(|state| match (headers, name) {
            (Headers::Callout, ":status") => Some(state.callout_status.to_string().into_bytes()),
            (Headers::Response, ":status") => Some(state.status(state.effective)?.to_string().into_bytes()),
            _ => {
                let list = state.acting()?.map(headers)?;
                list.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            }
        })
    }

    fn set_header(&self, headers: Headers, name: &str, value: &str) -> Result<(), HostError> {
        self.with(|state| {
            let list = state.acting().and_then(|request| request.map(headers));
            done(list.map(|list| set(list, name, value.as_bytes())).is_some())
        })
    }

    fn remove_header(&self, headers: Headers, name: &str) -> Result<(), HostError> {
        self.with(|state| {
            let list = state.acting().and_then(|request| request.map(headers));
            done(list.map(|list| remove(list, name)).is_some())
        })
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        if path == ["plugin_root_id"] {
            return Some(b"limiter".to_vec());
        }
        let properties = self.with(|state| state.acting().map(|request| request.exchange.properties.clone()))?;
        properties(path).filter(|value| !value.is_empty())
    }

    fn set_property(&self, name: &str, value: &str) -> Result<(), HostError> {
        self.with(|state| {
            let set = state.acting().map(|request| request.filter_state.insert(name.to_owned(), value.to_owned()));
            done(set.is_some())
        })
    }

    fn resume_request(&self) -> Result<(), HostError> {
        self.resume(Event::Resume)
    }

    fn resume_response(&self) -> Result<(), HostError> {
        self.resume(Event::ResumeResponse)
    }

    fn send_local_response(
        &self,
        status: u16,
        details: &str,
        headers: &[u8],
        body: &[u8],
        grpc_status: Option<u32>,
    ) -> Result<(), HostError> {
        let now = self.now();
        let lossy = |text: &[u8]| String::from_utf8_lossy(text).to_ascii_lowercase();
        let headers = decode_pairs(headers).map(|(name, value)| (lossy(name), value.to_vec())).collect();
        let reply = LocalReply { status, details: details.to_owned(), headers, body: body.to_vec(), grpc_status };
        self.with(|state| {
            let context = state.effective;
            let Some(request) = state.acting().filter(|request| request.phase == Phase::Request) else {
                return done(false);
            };
            request.phase = Phase::Upstream;
            request.decided = now;
            request.local = Some(reply);
            state.push(now, Event::Upstream(context));
            Ok(())
        })
    }

    fn http_call(&self, _cluster: &str, _headers: &[u8], body: &[u8], timeout: u32) -> Result<u32, HostError> {
        let token = self.with(State::next_token);
        match &self.way {
            Way::Direct(redis) => self.call_out_directly(redis, token, body),
            Way::Link(link) => done(link.call_out(token, body, Micros::from_millis(timeout.into())))?,
        }
        Ok(token)
    }

    fn open_stream(&self, _cluster: &str, _service: &str, _method: &str) -> Result<u32, HostError> {
        let token = self.with(State::next_token);
        match &self.way {
            Way::Direct(redis) => self.open_directly(redis, token),
            Way::Link(link) => done(link.open(token))?,
        }
        Ok(token)
    }

    fn send(&self, stream: u32, message: &[u8]) -> Result<(), HostError> {
        let effective = self.with(|state| state.effective);
        done(effective == LIMITER)?;
        match &self.way {
            Way::Direct(redis) => self.send_directly(redis, stream, message),
            Way::Link(link) => link.send(stream, message),
        }
        Ok(())
    }

    fn cancel_stream(&self, stream: u32) -> Result<(), HostError> {
        self.close_stream(stream)
    }

    fn close_stream(&self, stream: u32) -> Result<(), HostError> {
        if let Way::Link(link) = &self.way {
            link.close(stream);
        }
        self.with(|state| {
            state.stream.take_if(|open| open.token == stream);
            Ok(())
        })
    }

    fn register_queue(&self, _name: &str) -> Result<u32, HostError> {
        Ok(QUEUE)
    }

    fn enqueue(&self, queue: u32) -> Result<(), HostError> {
        let now = self.now();
        self.with(|state| {
            state.queued = state.queued.saturating_add(1);
            state.push(now, Event::Turn);
            done(queue == QUEUE)
        })
    }

    fn dequeue(&self, _queue: u32) -> Option<Vec<u8>> {
        self.with(|state| {
            state.queued = state.queued.checked_sub(1)?;
            Some(Vec::new())
        })
    }

    fn define_metric(&self, _kind: Metric, name: &str) -> Result<u32, HostError> {
        self.with(|state| {
            state.metrics.push((name.to_owned(), 0));
            u32::try_from(state.metrics.len()).map_err(|_| HostError(NonZeroU32::MIN))
        })
    }

    fn increment(&self, metric: u32, offset: i64) -> Result<(), HostError> {
        self.with(|state| {
            let value = usize::try_from(metric).ok().and_then(|id| state.metrics.get_mut(id.checked_sub(1)?));
            done(value.map(|(_, value)| *value = value.saturating_add(offset)).is_some())
        })
    }

    fn record_value(&self, _histogram: u32, _value: u64) -> Result<(), HostError> {
        Ok(())
    }
}

impl Shared {
    fn call_out_directly(&self, redis: &Redis, token: u32, body: &[u8]) {
        let (status, body) = if redis.is_down() {
            (
                UNAVAILABLE,
                b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
                    .to_vec(),
            )
        } else if let Some(request) = front_end::Request::read(body) {
            let replies: Vec<_> = request.commands().iter().map(|command| redis.run(command)).collect();
            (200, request.response(&replies))
        } else {
            let mut commands = Commands::default();
            commands.push(body);
            (200, run(redis, &mut commands).unwrap_or_default())
        };
        let at = self.now().plus(self.round_trip);
        self.with(|state| state.push(at, Event::CalloutEnds { token, status: Some(status), body }));
    }

    fn open_directly(&self, redis: &Redis, token: u32) {
        let (now, is_down) = (self.now(), redis.is_down());
        self.with(|state| {
            if is_down {
                // Envoy opens the stream, and closes it when the connection is refused.
                state.push(now, Event::StreamClosed(token));
            }
            state.stream = (!is_down).then(|| Stream { token, commands: Commands::default() });
        });
    }

    fn send_directly(&self, redis: &Redis, stream: u32, message: &[u8]) {
        let open = self.with(|state| state.stream.take_if(|open| open.token == stream));
        // Bytes on a stream that is being closed are lost.
        let Some(mut open) = open else { return };
        open.commands.push(message);
        let at = self.now().plus(self.round_trip);
        let replies = run(redis, &mut open.commands);
        self.with(|state| match replies {
            Some(replies) => {
                for message in replies.chunks(MAX_MESSAGE) {
                    state.push(at, Event::StreamMessage(stream, message.to_vec()));
                }
                state.stream = Some(open);
            }
            None => state.push(at, Event::StreamClosed(stream)),
        });
    }

    fn resume(&self, event: fn(u32) -> Event) -> Result<(), HostError> {
        let now = self.now();
        self.with(|state| {
            let context = state.effective;
            let is_request = state.requests.contains_key(&context);
            if is_request {
                state.push(now, event(context));
            }
            done(is_request)
        })
    }
}

impl State {
    fn acting(&mut self) -> Option<&mut Request> {
        self.requests.get_mut(&self.effective)
    }
}

impl Request {
    fn map(&mut self, headers: Headers) -> Option<&mut crate::exchange::Headers> {
        match headers {
            Headers::Request => Some(&mut self.exchange.headers),
            Headers::Response => (self.phase == Phase::Response).then_some(&mut self.response),
            Headers::Callout => None,
        }
    }
}

/// Runs all whole commands of a connection. Returns their replies; `None` where Redis closes the connection.
fn run(redis: &Redis, commands: &mut Commands) -> Option<Vec<u8>> {
    let mut replies = Vec::new();
    while let Some(command) = commands.next() {
        encode(&redis.run(&command.ok()?), &mut replies);
    }
    Some(replies)
}

fn done(is_done: bool) -> Result<(), HostError> {
    if is_done { Ok(()) } else { Err(HostError(NonZeroU32::MIN)) }
}
