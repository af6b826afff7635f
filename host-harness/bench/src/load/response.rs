//! Minimal parser of HTTP/1.1 responses: status and length.

use thiserror::Error;

/// Reasons why a response cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ResponseError {
    /// The bytes do not begin with an HTTP/1.1 status line.
    #[error("expected an HTTP/1.1 response, found {found:?}")]
    NoStatusLine {
        /// The first 20 bytes.
        found: String,
    },
    /// The response has no content-length; a closed loop needs it to find the end.
    #[error("expected a content-length in the response {status}")]
    NoLength {
        /// The response's status.
        status: u16,
    },
    /// The server sent bytes after the response.
    #[error("{0} bytes after the response's end")]
    Surplus(usize),
}

/// The status of a complete response; `None` if bytes are missing.
pub(super) fn status_if_whole(bytes: &[u8]) -> Result<Option<u16>, ResponseError> {
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let (head, body) = bytes.split_at(head_end);
    let status = status(head).ok_or_else(|| ResponseError::NoStatusLine {
        found: String::from_utf8_lossy(head.get(..20).unwrap_or(head)).into_owned(),
    })?;
    let length = content_length(head).ok_or(ResponseError::NoLength { status })?;
    match body.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Equal => Ok(Some(status)),
        std::cmp::Ordering::Greater => Err(ResponseError::Surplus(body.len() - length)),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(line.get(NAME.len()..)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 5\r\nserver: x\r\n\r\nhello";

    #[test]
    fn a_response_is_complete_with_its_last_byte_and_not_before() {
        for length in 0..ANSWER.len() {
            assert_eq!(status_if_whole(&ANSWER[..length]), Ok(None), "{length}");
        }
        assert_eq!(status_if_whole(ANSWER), Ok(Some(429)));
        assert_eq!(status_if_whole(&[ANSWER, b"!"].concat()), Err(ResponseError::Surplus(1)));
    }

    #[test]
    fn a_response_without_a_length_is_refused() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(status_if_whole(chunked), Err(ResponseError::NoLength { status: 200 }));
        let found = "RTSP/1.0 200 OK\r\nx: ".to_owned();
        assert_eq!(status_if_whole(b"RTSP/1.0 200 OK\r\nx: y\r\n\r\n"), Err(ResponseError::NoStatusLine { found }));
    }
}
