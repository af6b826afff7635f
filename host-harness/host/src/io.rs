//! Byte streams of connections: TCP or TLS, on both sides of the proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Longest time in which a closed connection is read on; Envoy's default of `delayed_close_timeout`.
const LINGER: Duration = Duration::from_secs(1);
/// Maximum number of bytes that are read from a closed connection.
const LINGERED: usize = 64 * 1024 * 1024;

/// Byte stream of a connection.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Connection with its transport hidden.
pub(crate) type Connection = Box<dyn ByteStream>;

/// Byte stream whose first bytes have been read already.
pub(crate) struct Rewound<S> {
    pub(crate) start: Bytes,
    pub(crate) stream: S,
}

/// Byte stream whose shutdown drops what the client still sends, until the client closes too.
///
/// The system resets a connection that is closed with unread bytes, and the client then loses what it has not read yet
/// of the last response.
pub(crate) struct LingeringStream<S> {
    stream: S,
    /// End of the reading, and the number of bytes dropped so far; `None` before the shutdown.
    closing: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> LingeringStream<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, closing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let count = self.start.len().min(into.remaining());
        into.put_slice(self.start.get(..count).unwrap_or_default());
        self.start.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LingeringStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

/// Implements the writing of a byte stream by its field `stream`, but for the shutdown.
macro_rules! write_to_stream {
    () => {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
        }

        fn is_write_vectored(&self) -> bool {
            self.stream.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }
    };
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    write_to_stream!();

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringStream<S> {
    write_to_stream!();

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, closing } = self.get_mut();
        if closing.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let (end, dropped) = closing.get_or_insert_with(|| (Box::pin(sleep(LINGER)), 0));
        let mut buffer = [0; 16 * 1024];
        while *dropped < LINGERED {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => *dropped += read.filled().len(),
                Poll::Ready(_) => break,
                Poll::Pending => return end.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[test]
    fn a_closed_connection_drops_what_its_client_still_sends_until_the_client_closes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut client, host) = duplex(1 << 20);
            let mut host = LingeringStream::new(host);
            client.write_all(&[b'x'; 100_000]).await.unwrap();
            client.shutdown().await.unwrap();
            host.write_all(b"response").await.unwrap();
            host.shutdown().await.unwrap();
            assert_eq!(host.read(&mut [0; 16]).await.unwrap(), 0, "nothing of the client is unread");
            let mut response = Vec::new();
            client.read_to_end(&mut response).await.unwrap();
            assert_eq!(response, b"response");
        });
    }

    #[test]
    fn a_client_that_does_not_close_is_left_after_a_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (_client, host) = duplex(1024);
            LingeringStream::new(host).shutdown().await.unwrap();
        });
    }
}
