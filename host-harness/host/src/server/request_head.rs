//! Heads of HTTP/1 requests: which of them Envoy's parser accepts, its answers to the others, and their plain form.
//!
//! hyper refuses some of them in its own words, and repairs others: it forwards a request with both a length and a
//! transfer encoding, and drops a fragment. hyper gets a head in its plain form: Envoy accepts tabs and several spaces
//! in a request line, folded header lines, and carriage returns within values, which hyper refuses.

use super::early::EarlyAnswer;
use super::sanitize::is_host_with_port;

/// Maximum length of a head in bytes: Envoy's default of `max_request_headers_kb`.
pub(super) const MAX_HEAD: usize = 60 * 1024;
/// Maximum number of header lines: Envoy's default of `max_headers_count`, and hyper's.
pub(super) const MAX_HEADERS: usize = 100;

/// Head of a request that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// Answer of the connection manager, which comes after `100 Continue`.
    pub(super) answered: Option<EarlyAnswer>,
    /// The head for hyper, if it differs from the one that the client has sent: without the expectation of
    /// `100 Continue`, which is answered here.
    pub(super) plain: Option<Vec<u8>>,
}

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

/// Request line that Envoy's parser accepts.
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    /// Whether single spaces separate its parts, and none follows.
    is_plain: bool,
    has_fragment: bool,
}

/// Header line, or several lines that are one.
struct Field<'a> {
    name: &'a [u8],
    value: Vec<u8>,
    /// Whether its value is one line without carriage returns.
    is_plain: bool,
}

/// Judges a head: request line and header lines, with the empty line at the end.
///
/// # Errors
/// The answer to a request that Envoy refuses.
pub(super) fn judge(head: &[u8]) -> Result<Head, EarlyAnswer> {
    if head.len() > MAX_HEAD {
        return Err(EarlyAnswer::HeadTooLarge);
    }
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut lines = lines.skip_while(|line| line.is_empty());
    let request = request_line(lines.next().unwrap_or_default())?;
    let is_connect = request.method == b"CONNECT";
    let mut fields: Vec<Field<'_>> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            fields.last_mut().ok_or(EarlyAnswer::BadRequest)?.append(line);
        } else if fields.len() == MAX_HEADERS {
            return Err(EarlyAnswer::TooManyHeaders);
        } else {
            fields.push(Field::of(line)?);
        }
    }
    let (mut length, mut encoding, mut is_upgrade, mut upgrades) = (None, None, false, false);
    let mut expectations: Vec<&[u8]> = Vec::new();
    for field in &fields {
        let value = field.checked()?;
        match field.name.to_ascii_lowercase().as_slice() {
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
            b"expect" => expectations.push(value),
            _ => {}
        }
    }
    let framing = match (length, encoding) {
        (Some(_), Some(_)) => return Err(EarlyAnswer::LengthAndEncoding),
        (_, Some(false)) => return Err(EarlyAnswer::UnknownEncoding),
        (_, Some(true)) if is_connect => return Err(EarlyAnswer::UnknownEncoding),
        (Some(1..), None) if is_connect => return Err(EarlyAnswer::BadRequest),
        (_, Some(true)) => Framing::Chunked,
        _ if is_connect || (is_upgrade && upgrades) => Framing::Tunnel,
        (length, None) => Framing::Length(length.unwrap_or(0)),
    };
    let expects_continue = matches!(expectations.as_slice(), [one] if one.eq_ignore_ascii_case(b"100-continue"));
    let is_plain = request.is_plain && expectations.is_empty() && fields.iter().all(|field| field.is_plain);
    let expectation = (!expects_continue && !expectations.is_empty()).then(|| expectations.join(&b","[..]));
    let plain = (!is_plain).then(|| plain(&request, &fields, expectation.as_deref()));
    let answered = request.has_fragment.then_some(EarlyAnswer::Fragment);
    Ok(Head { framing, expects_continue, answered, plain })
}

/// Returns a head in its plain form; `expectation`: the value of its one `expect` header. Several would have hyper
/// answer one of them.
fn plain(request: &RequestLine<'_>, fields: &[Field<'_>], expectation: Option<&[u8]>) -> Vec<u8> {
    let mut head = [request.method, b" ", request.target, b" HTTP/1.1\r\n"].concat();
    for field in fields.iter().filter(|field| !field.name.eq_ignore_ascii_case(b"expect")) {
        head.extend([field.name, b": ", field.value.trim_ascii(), b"\r\n"].concat());
    }
    if let Some(expectation) = expectation {
        head.extend([b"expect: ", expectation, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

impl<'a> Field<'a> {
    /// Parses the first line of a header.
    fn of(line: &'a [u8]) -> Result<Self, EarlyAnswer> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(EarlyAnswer::BadRequest)?;
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(EarlyAnswer::BadRequest);
        }
        let mut field = Self { name, value: Vec::new(), is_plain: true };
        field.append(value.get(1..).unwrap_or_default());
        field.is_plain = !value.contains(&b'\r');
        Ok(field)
    }

    /// Appends a folded line. Envoy drops the ends of lines, and keeps the space.
    fn append(&mut self, line: &[u8]) {
        self.value.extend(line.iter().filter(|byte| **byte != b'\r'));
        self.is_plain = false;
    }

    /// Returns the value, if it has no control characters.
    fn checked(&self) -> Result<&[u8], EarlyAnswer> {
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        if self.value.iter().any(is_control) { Err(EarlyAnswer::BadRequest) } else { Ok(self.value.trim_ascii()) }
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

/// Parses a request line. Spaces, tabs and carriage returns separate its parts, in any number.
fn request_line(line: &[u8]) -> Result<RequestLine<'_>, EarlyAnswer> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    if line.iter().any(|byte| byte.is_ascii_control() && !is_space(byte)) || line.first().is_none_or(is_space) {
        return Err(EarlyAnswer::BadRequest);
    }
    let mut parts = line.splitn(2, is_space);
    let method = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let rest = rest.get(rest.iter().take_while(|byte| is_space(byte)).count()..).unwrap_or_default();
    let mut parts = rest.splitn(2, is_space);
    let target = parts.next().unwrap_or_default();
    let version = parts.next().unwrap_or_default().trim_ascii();
    let is_plain = line.len() == method.len() + target.len() + version.len() + 2 && !line.contains(&b'\t');
    match version {
        b"HTTP/1.1" => {}
        // HTTP/0.9.
        b"" if !target.is_empty() => return Err(EarlyAnswer::LowVersion),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(EarlyAnswer::LowVersion);
        }
        _ => return Err(EarlyAnswer::BadRequest),
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(EarlyAnswer::BadRequest);
    }
    if !EarlyAnswer::knows(method) {
        return Err(EarlyAnswer::UnknownMethod);
    }
    let has_fragment = method != b"CONNECT" && target.contains(&b'#');
    let line = RequestLine { method, target, is_plain: is_plain && !line.contains(&b'\r'), has_fragment };
    if method == b"CONNECT" {
        return if is_host_and_port(target) { Ok(line) } else { Err(EarlyAnswer::BadTarget) };
    }
    let scheme = target.windows(3).position(|window| window == b"://").and_then(|end| target.get(..end));
    let is_absolute = scheme.is_some_and(|it| it.eq_ignore_ascii_case(b"http") || it.eq_ignore_ascii_case(b"https"));
    if is_absolute && !scheme.is_some_and(|scheme| has_host(target.get(scheme.len() + 3..).unwrap_or_default())) {
        return Err(EarlyAnswer::BadTarget);
    }
    let is_target = target.starts_with(b"/") || is_absolute || (method == b"OPTIONS" && target == b"*");
    if is_target { Ok(line) } else { Err(EarlyAnswer::BadTarget) }
}

/// Whether the rest of a URL behind its scheme has a host that Envoy accepts, behind a user if there is one.
fn has_host(rest: &[u8]) -> bool {
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    is_host_with_port(host) && !authority.windows(2).any(|pair| pair == b"@@")
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
