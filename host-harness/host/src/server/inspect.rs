//! Inspection of what a client sends: hyper gets only heads of HTTP/1 requests that Envoy accepts.
//!
//! A head that Envoy refuses is replaced by one of a plain request, and the service learns the answer to it: its
//! response has Envoy's words, and access logs and counters have it. A request that expects `100 Continue` gets it
//! before the service has the request, as in Envoy: hyper would send it only where the body is read. HTTP/2 and bytes
//! of tunnels pass unchanged.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunks::Chunks;
use super::early::EarlyAnswer;
use super::request_head::{Framing, MAX_HEAD, judge, judge_start};

/// Start of an HTTP/2 connection.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Head in the place of a refused one.
const PLAIN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const READ_SIZE: usize = 8 * 1024;

/// Answers to the requests of a connection, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdicts(Arc<Mutex<Verdict>>);

#[derive(Debug, Default)]
struct Verdict {
    /// Answers to the next requests; `None`: the request is served.
    answers: VecDeque<Option<EarlyAnswer>>,
    /// Number of responses that hyper has taken as a whole.
    responses: usize,
}

/// Byte stream of a client whose requests are inspected.
pub(super) struct InspectedStream<S> {
    stream: S,
    verdicts: Verdicts,
    state: State,
    /// Bytes that were read.
    buffer: BytesMut,
    /// Number of bytes at the start of the buffer that hyper may have.
    released: usize,
    /// Number of requests that hyper has got, or gets next.
    requests: usize,
    /// Number of responses that have been written.
    written: usize,
    /// Rest of `100 Continue`, which is written before anything else.
    outgoing: &'static [u8],
    /// Whether the next head waits until the responses to earlier requests have been written.
    is_blocked: bool,
    /// Reader of the blocked head.
    waiting: Option<Waker>,
}

/// Part of the connection at the end of the released bytes.
#[derive(Debug)]
enum State {
    /// The first bytes of the connection: HTTP/2, or the head of a request.
    Start,
    Head,
    /// Body with its remaining length.
    Body(u64),
    Chunks(Chunks),
    /// Anything: it is not inspected.
    Any,
    /// The rest after a refused request.
    Refused,
}

impl Verdicts {
    /// Returns the answer to the next request; `None`: it is served.
    pub(super) fn next(&self) -> Option<EarlyAnswer> {
        self.held().answers.pop_front().flatten()
    }

    /// Notes that hyper has taken a response as a whole.
    pub(super) fn note_response(&self) {
        self.held().responses += 1;
    }

    fn push(&self, verdict: Option<EarlyAnswer>) {
        self.held().answers.push_back(verdict);
    }

    fn held(&self) -> MutexGuard<'_, Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> InspectedStream<S> {
    pub(super) fn new(stream: S, verdicts: Verdicts) -> Self {
        let (state, buffer) = (State::Start, BytesMut::new());
        let (released, requests, written, outgoing) = (0, 0, 0, &[][..]);
        Self {
            stream,
            verdicts,
            state,
            buffer,
            released,
            requests,
            written,
            outgoing,
            is_blocked: false,
            waiting: None,
        }
    }

    /// Releases what can be released of the buffer; returns whether that is anything.
    fn inspect(&mut self) -> bool {
        while self.released < self.buffer.len() {
            let rest = self.buffer.get(self.released..).unwrap_or_default();
            let before = self.released;
            match &mut self.state {
                State::Start if rest.starts_with(HTTP2_PREFACE) => self.state = State::Any,
                State::Start if HTTP2_PREFACE.starts_with(rest) => break,
                State::Start => self.state = State::Head,
                State::Head => match head_length(rest) {
                    Some(length) => {
                        if !self.judge(length) {
                            break;
                        }
                    }
                    None if rest.len() > MAX_HEAD => self.refuse(EarlyAnswer::HeadTooLarge),
                    None => match judge_start(rest) {
                        Some(answer) => self.refuse(answer),
                        None => break,
                    },
                },
                State::Body(0) => self.state = State::Head,
                State::Body(remaining) => {
                    let part = rest.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                    *remaining -= part as u64;
                    self.released += part;
                }
                State::Chunks(chunks) => {
                    self.released += chunks.take(rest);
                    if chunks.is_over() {
                        self.state = State::Head;
                    } else if self.released == before {
                        // hyper refuses the body.
                        self.state = State::Any;
                    }
                }
                State::Any => self.released = self.buffer.len(),
                State::Refused => {
                    self.buffer.truncate(self.released);
                    break;
                }
            }
        }
        self.released > 0
    }

    /// Judges the head after the released bytes; returns false if it has to wait for earlier responses.
    fn judge(&mut self, length: usize) -> bool {
        let start = self.released;
        let head = match judge(self.buffer.get(start..start + length).unwrap_or_default()) {
            Ok(head) => head,
            Err(answer) => {
                self.refuse(answer);
                return true;
            }
        };
        self.is_blocked = head.expects_continue && self.written < self.requests;
        if self.is_blocked {
            return false;
        }
        if head.expects_continue {
            self.outgoing = CONTINUE;
        }
        if let Some(answer) = head.answered {
            self.refuse(answer);
            return true;
        }
        self.verdicts.push(None);
        self.requests += 1;
        self.released += length;
        if let Some(plain) = head.plain {
            let rest = self.buffer.split_off(start + length);
            self.buffer.truncate(start);
            self.buffer.extend_from_slice(&plain);
            self.buffer.extend_from_slice(&rest);
            self.released = start + plain.len();
        }
        self.state = match head.framing {
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::Chunks(Chunks::default()),
            Framing::Tunnel => State::Any,
        };
        true
    }

    fn refuse(&mut self, answer: EarlyAnswer) {
        self.verdicts.push(Some(answer));
        self.requests += 1;
        self.buffer.truncate(self.released);
        self.buffer.extend_from_slice(PLAIN);
        self.released = self.buffer.len();
        self.state = State::Refused;
    }
}

/// Returns the length of a head with its empty line, and with line ends before it; `None`: it is not complete.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut rest = bytes.get(start..)?;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        rest = rest.get(end + 1..)?;
        let empty = if rest.starts_with(b"\n") { 1 } else { 2 * usize::from(rest.starts_with(b"\r\n")) };
        if empty > 0 {
            return Some(bytes.len() - rest.len() + empty);
        }
    }
    None
}

impl<S: AsyncRead + Unpin> InspectedStream<S> {
    /// Reads bytes of a body, or what is not inspected, without a copy.
    fn poll_pass(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if let State::Body(remaining) = &mut self.state {
            let read = into.filled().len() - start;
            let part = read.min(usize::try_from(*remaining).unwrap_or(usize::MAX));
            *remaining -= part as u64;
            self.buffer.extend_from_slice(into.filled().get(start + part..).unwrap_or_default());
            into.set_filled(start + part);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> InspectedStream<S> {
    /// Writes what is to be written before all else.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.outgoing.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, self.outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing = self.outgoing.get(count..).unwrap_or_default();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for InspectedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.inspect() {
            if this.is_blocked {
                this.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if matches!(this.state, State::Any | State::Body(1..)) && this.buffer.is_empty() {
                return this.poll_pass(cx, into);
            }
            let mut space = [MaybeUninit::uninit(); READ_SIZE];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            this.buffer.extend_from_slice(read.filled());
            if read.filled().is_empty() {
                // The client has closed.
                match this.state {
                    // The answer to the refused request ends the connection.
                    State::Refused => return Poll::Pending,
                    _ if this.buffer.is_empty() => return Poll::Ready(Ok(())),
                    // hyper judges what is not complete.
                    _ => this.state = State::Any,
                }
            }
        }
        // A client that does not read does not hold up the reading: the rest is written before the response.
        if let Poll::Ready(Err(error)) = this.poll_outgoing(cx) {
            return Poll::Ready(Err(error));
        }
        let count = this.released.min(into.remaining());
        into.put_slice(this.buffer.get(..count).unwrap_or_default());
        this.buffer.advance(count);
        this.released -= count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InspectedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes after each response.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.written = this.verdicts.held().responses;
        if let Some(waiting) = this.waiting.take_if(|_| this.written >= this.requests) {
            waiting.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_outgoing(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Returns what hyper gets of bytes that arrive in pieces, and the verdicts.
    fn inspected(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<Option<EarlyAnswer>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let verdicts = Verdicts::default();
            let (mut client, host) = duplex(size);
            let host = InspectedStream::new(host, verdicts.clone());
            let sending = async move {
                // The host reads no more after a refused request.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
            };
            let mut read = Vec::new();
            let reading = async {
                let mut host = host;
                let mut buffer = [0; 100];
                loop {
                    match host.read(&mut buffer).await.unwrap() {
                        0 => break,
                        count => read.extend_from_slice(&buffer[..count]),
                    }
                    if read.ends_with(PLAIN) {
                        break;
                    }
                }
            };
            tokio::join!(sending, reading);
            let verdicts = verdicts.held().answers.drain(..).collect();
            (read, verdicts)
        })
    }

    #[test]
    fn requests_pass_unchanged_however_their_bytes_are_cut() {
        let get = "\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\nhost: a\ncontent-length: 7\n\nGET / X";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let sent = [get, post, chunked, get, "GET /unfinished"].concat();
        for size in [1, 2, 3, 7, 50, 1000] {
            let (read, verdicts) = inspected(sent.as_bytes(), size);
            assert_eq!((read.as_slice(), verdicts), (sent.as_bytes(), vec![None; 4]), "{size}");
        }
        let preface = [HTTP2_PREFACE, b"GET / HTTP/1.0\r\n\r\n"].concat();
        assert_eq!(inspected(&preface, 5), (preface, Vec::new()));
    }

    #[test]
    fn a_refused_request_is_replaced_and_what_follows_is_dropped() {
        let good = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
        let bad = "GET / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n";
        let sent = [good, bad, good].concat();
        let expected = [good.as_bytes(), PLAIN].concat();
        for size in [1, 10, 1000] {
            let (read, verdicts) = inspected(sent.as_bytes(), size);
            assert_eq!((read, verdicts), (expected.clone(), vec![None, Some(EarlyAnswer::BadRequest)]), "{size}");
        }
        let endless = ["GET / HTTP/1.1\r\nx: ".as_bytes(), &[b'x'; MAX_HEAD]].concat();
        assert_eq!(inspected(&endless, 9999), (PLAIN.to_vec(), vec![Some(EarlyAnswer::HeadTooLarge)]));
    }
}
