//! Heads of HTTP/1 requests: which of them Envoy's parser accepts, and its answers to the others.
//!
//! hyper refuses some of them in its own words, and repairs others: it forwards a request with both a length and a
//! transfer encoding, and drops a fragment. What hyper refuses beyond Envoy is refused here, too: folded header lines.

use super::early::EarlyAnswer;

/// Maximum length of a head in bytes: Envoy's default of `max_request_headers_kb`.
pub(super) const MAX_HEAD: usize = 60 * 1024;
/// Maximum number of header lines: Envoy's default of `max_headers_count`, and hyper's.
const MAX_HEADERS: usize = 100;

/// What follows the head of a request on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// A body of a length, then the next head.
    Length(u64),
    /// A body in chunks, then the next head.
    Chunked,
    /// Bytes of another protocol, if the request is answered accordingly.
    Tunnel,
}

/// Returns what follows a head: request line and header lines, with the empty line at the end.
///
/// # Errors
/// The answer to a request that Envoy refuses.
pub(super) fn judge(head: &[u8]) -> Result<Framing, EarlyAnswer> {
    if head.len() > MAX_HEAD {
        return Err(EarlyAnswer::HeadTooLarge);
    }
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut lines = lines.skip_while(|line| line.is_empty());
    let is_connect = request_line(lines.next().unwrap_or_default())?;
    let (mut count, mut length, mut encoding, mut is_upgrade, mut upgrades) = (0, None, None, false, false);
    for line in lines.take_while(|line| !line.is_empty()) {
        count += 1;
        if count > MAX_HEADERS {
            return Err(EarlyAnswer::TooManyHeaders);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(EarlyAnswer::BadRequest)?;
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(EarlyAnswer::BadRequest);
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(EarlyAnswer::BadRequest);
        }
        match name.to_ascii_lowercase().as_slice() {
            b"content-length" if length.is_some() => return Err(EarlyAnswer::BadRequest),
            b"content-length" => length = Some(number(value).ok_or(EarlyAnswer::BadRequest)?),
            b"transfer-encoding" => encoding = Some(encoding.is_none() && value.eq_ignore_ascii_case(b"chunked")),
            b"host" if !is_authority(value) => return Err(EarlyAnswer::BadAuthority),
            b"connection" => {
                is_upgrade |=
                    value.split(|byte| *byte == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            // Envoy ignores the upgrade to HTTP/2.
            b"upgrade" => upgrades = !value.is_empty() && !value.eq_ignore_ascii_case(b"h2c"),
            _ => {}
        }
    }
    match (length, encoding) {
        (Some(_), Some(_)) => Err(EarlyAnswer::LengthAndEncoding),
        (_, Some(false)) => Err(EarlyAnswer::UnknownEncoding),
        (_, Some(true)) if is_connect => Err(EarlyAnswer::UnknownEncoding),
        (Some(1..), None) if is_connect => Err(EarlyAnswer::BadRequest),
        (_, Some(true)) => Ok(Framing::Chunked),
        _ if is_connect || (is_upgrade && upgrades) => Ok(Framing::Tunnel),
        (length, None) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

/// Returns the answer to a head that is refused whatever follows: its first byte begins no method, as of a client that
/// speaks TLS, or its request line is malformed.
pub(super) fn judge_start(start: &[u8]) -> Option<EarlyAnswer> {
    let text = start.get(start.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?..)?;
    if !text.first().is_some_and(|byte| is_token(*byte)) {
        return Some(EarlyAnswer::BadRequest);
    }
    let line = text.get(..text.iter().position(|byte| *byte == b'\n')?)?;
    let refused = request_line(line.strip_suffix(b"\r").unwrap_or(line)).err();
    refused.filter(|answer| matches!(answer, EarlyAnswer::BadRequest | EarlyAnswer::UnknownMethod))
}

/// Checks a request line; returns whether its method is CONNECT.
fn request_line(line: &[u8]) -> Result<bool, EarlyAnswer> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match parts.next() {
        Some(b"HTTP/1.1") => {}
        // HTTP/0.9.
        None if !target.is_empty() => return Err(EarlyAnswer::LowVersion),
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(EarlyAnswer::LowVersion);
        }
        _ => return Err(EarlyAnswer::BadRequest),
    }
    if parts.next().is_some() || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(EarlyAnswer::BadRequest);
    }
    if !EarlyAnswer::knows(method) {
        return Err(EarlyAnswer::UnknownMethod);
    }
    if method == b"CONNECT" {
        return if is_host_and_port(target) { Ok(true) } else { Err(EarlyAnswer::BadTarget) };
    }
    let scheme = target.windows(3).position(|window| window == b"://").and_then(|end| target.get(..end));
    let is_absolute = scheme.is_some_and(|it| it.eq_ignore_ascii_case(b"http") || it.eq_ignore_ascii_case(b"https"));
    if !(target.starts_with(b"/") || is_absolute || (method == b"OPTIONS" && target == b"*")) {
        return Err(EarlyAnswer::BadTarget);
    }
    if target.contains(&b'#') { Err(EarlyAnswer::Fragment) } else { Ok(false) }
}

/// Whether a CONNECT request can have a target: a host, and a port.
fn is_host_and_port(target: &[u8]) -> bool {
    let Some(colon) = target.iter().rposition(|byte| *byte == b':') else { return false };
    let (host, port) = target.split_at(colon);
    let port = port.get(1..).and_then(number).is_some_and(|port| port <= u64::from(u16::MAX));
    port && !host.is_empty() && is_authority(host) && !host.contains(&b'@')
}

/// Whether a value has only the characters of an authority. It may be empty.
fn is_authority(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@[]".contains(byte))
}

/// Whether a byte can be part of a header's name.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns a number of decimal digits only.
fn number(value: &[u8]) -> Option<u64> {
    let digits = Some(value).filter(|value| value.iter().all(u8::is_ascii_digit))?;
    str::from_utf8(digits).ok()?.parse().ok()
}
