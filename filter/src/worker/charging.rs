//! Responses to requests that limits charge: their heads and bodies are read as they pass, and never held or changed.

use alloc::string::String;
use alloc::vec::Vec;

use super::Worker;
use super::callback::{Callback, RequestAttributes};
use crate::host::{self, Action, Buffer, Headers};
use crate::limiter::{RequestId, ResponseHead};
use crate::usage::{Framing, Numbers};

/// Details of a response's code where the response is from the upstream.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

impl Worker {
    /// Prepares a request that goes on. A compressed response would not tell its usage.
    #[inline(never)]
    pub(super) fn charged_request_goes_on(&self, callback: &mut Callback, request: u32) {
        let strips = self.with(|state| {
            let usage = state.limiter.config().usage.as_ref();
            usage.is_some_and(|usage| usage.strip_accept_encoding) && state.limiter.is_charged(RequestId(request))
        });
        if strips && callback.acts_as(request) {
            // Cannot fail: a request that is not decided has its headers.
            let _ = host::remove_header(Headers::Request, "accept-encoding");
        }
    }

    /// Adds members to the body whose last bytes, of this callback, end its document: a maximum, or the wish for usage.
    #[inline(never)]
    pub(super) fn add_members(&self, attributes: &RequestAttributes, bytes: &[u8]) {
        let members = self.with(|state| state.limiter.additions(attributes));
        let end = bytes.iter().rposition(|byte| *byte == b'}');
        let Some((before, end)) = end.and_then(|end| bytes.split_at_checked(end)) else { return };
        if members.is_empty() {
            return;
        }
        // The comma after an empty object's brace would be none of JSON's.
        let is_first = before.trim_ascii_end().last() == Some(&b'{');
        let members = members.get(usize::from(is_first)..).unwrap_or_default();
        // Cannot fail: the request has a body, and its headers are held.
        let _ = host::replace_buffer(Buffer::RequestBody, bytes.len(), &[before, members.as_bytes(), end].concat());
        let _ = host::remove_header(Headers::Request, "content-length");
    }

    /// Handles the head of a response. The request's context is the effective one.
    #[inline(never)]
    pub(super) fn charged_response_begins(&self, request: u32) {
        if !self.with(|state| state.limiter.is_charged(RequestId(request))) {
            return;
        }
        let header = |name| host::header(Headers::Response, name);
        let number = |value: &[u8]| str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
        let (mut tokens, mut malformed) = (Numbers::default(), 0_u32);
        let names = self.with(|state| state.limiter.token_headers());
        for (name, field) in names.iter().flat_map(|names| names.iter()) {
            let Some(value) = header(name) else { continue };
            match (number(&value), tokens.get_mut(*field as usize)) {
                (Some(number), Some(known)) => *known = Some(number),
                _ => malformed = malformed.saturating_add(1),
            }
        }
        let status = header(":status").and_then(|status| number(&status));
        let head = ResponseHead {
            status: status.and_then(|status| u16::try_from(status).ok()).unwrap_or(0),
            is_upstream: host::property(&["response", "code_details"]).is_none_or(|details| details == VIA_UPSTREAM),
            framing: header("content-type").and_then(|content_type| Framing::of_content_type(&content_type)),
            is_encoded: header("content-encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")),
            tokens,
            malformed,
        };
        self.with(|state| state.limiter.response_begins(RequestId(request), head));
    }

    /// Handles the next `size` bytes of a response's body.
    pub(super) fn response_body(&self, request: u32, size: usize, is_whole: bool) -> Action {
        if self.charges && size > 0 {
            let bytes = || host::buffer(Buffer::ResponseBody, size);
            let told = self.with(|state| state.limiter.response_body(RequestId(request), bytes));
            if let Some(told) = told {
                set_filter_state(told);
            }
        }
        if is_whole { self.response_ends(request) } else { Action::Continue }
    }

    /// Handles the end of a whole response, before its access log is written.
    #[inline(never)]
    pub(super) fn charged_response_ends(&self, request: u32) {
        set_filter_state(self.with(|state| state.limiter.response_is_whole(RequestId(request))));
    }
}

/// Sets values for the access log.
#[inline(never)]
fn set_filter_state(entries: Vec<(&'static str, String)>) {
    for (name, value) in entries {
        // A proxy without filter state loses only the value in its access log.
        let _ = host::set_property(name, &value);
    }
}
