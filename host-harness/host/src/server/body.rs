//! HTTP bodies that are produced in chunks.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::inspect::Verdicts;

/// Maximum number of frames waiting between a filter chain and a connection.
const CAPACITY: usize = 8;

pub(crate) type BodySender = mpsc::Sender<Frame<Bytes>>;
pub(crate) type ResponseFrame = Result<Frame<Bytes>, Interrupted>;

/// Request body sent upstream.
pub(crate) struct ChannelBody {
    frames: mpsc::Receiver<Frame<Bytes>>,
    empty: bool,
}

/// Response body sent downstream.
pub(crate) enum ResponseBody {
    /// Complete body; `None`: empty, or already sent.
    Whole(Option<Bytes>),
    /// Complete body of a response without a length; `None`: already sent.
    Unsized(Option<Bytes>),
    /// Frames from a task; the task is aborted when the downstream disconnects.
    Stream { frames: mpsc::Receiver<ResponseFrame>, ended: bool, _task: AbortOnDrop },
}

/// Response body over HTTP/1 whose end is noted: hyper has taken the whole response then.
pub(super) struct NotedBody {
    body: ResponseBody,
    verdicts: Verdicts,
    is_interrupted: bool,
}

/// Error of a body that ends early.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the response was interrupted")]
pub(crate) struct Interrupted;

pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl NotedBody {
    pub(super) fn new(body: ResponseBody, verdicts: Verdicts) -> Self {
        Self { body, verdicts, is_interrupted: false }
    }
}

impl Drop for NotedBody {
    fn drop(&mut self) {
        self.verdicts.note_response();
    }
}

impl Body for NotedBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if self.is_interrupted {
            return Poll::Ready(Some(Err(Interrupted)));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(Some(Err(Interrupted)))) {
            // hyper drops what it has not written when a body fails, and writes while a body is pending.
            self.is_interrupted = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns a request body and its sender; `empty`: no frame will be sent.
pub(crate) fn channel(empty: bool) -> (BodySender, ChannelBody) {
    let (sender, frames) = mpsc::channel(CAPACITY);
    (sender, ChannelBody { frames, empty })
}

pub(crate) fn response_channel() -> (mpsc::Sender<ResponseFrame>, mpsc::Receiver<ResponseFrame>) {
    mpsc::channel(CAPACITY)
}

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.empty
    }

    fn size_hint(&self) -> SizeHint {
        if self.empty { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

impl ResponseBody {
    /// Returns a complete body. Without a length among the headers, as a filter may have left them, it has none.
    pub(super) fn complete(data: Bytes, headers: &mut hyper::HeaderMap) -> Self {
        match headers.remove(hyper::header::CONTENT_LENGTH) {
            Some(_) => Self::Whole((!data.is_empty()).then_some(data)),
            None => Self::Unsized(Some(data)),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match &mut *self {
            Self::Whole(bytes) | Self::Unsized(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { frames, ended, .. } => {
                let frame = frames.poll_recv(cx);
                if matches!(frame, Poll::Ready(None)) {
                    *ended = true;
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) | Self::Unsized(bytes) => bytes.is_none(),
            Self::Stream { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Unsized(_) | Self::Stream { .. } => SizeHint::default(),
        }
    }
}
