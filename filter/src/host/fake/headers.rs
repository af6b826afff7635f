//! Headers of the fake host: those of requests, and changes as they are recorded.

use super::{Call, record, with};
use crate::host::{Headers, HostError};
use crate::pairs;

pub(super) fn headers(_headers: Headers) -> Vec<u8> {
    with(|state| state.request_headers.get(&state.effective).cloned()).unwrap_or_default()
}

pub(super) fn header(map: Headers, name: &str) -> Option<Vec<u8>> {
    match map {
        Headers::Request => {
            let encoded = headers(map);
            pairs::values(&encoded, name.as_bytes()).next().map(<[u8]>::to_vec)
        }
        Headers::Response | Headers::Callout => (name == ":status").then(|| b"200".to_vec()),
    }
}

pub(super) fn set_header(_headers: Headers, name: &str, value: &str) -> Result<(), HostError> {
    record(|context| Call::SetHeader(context, name.to_owned(), value.to_owned()));
    Ok(())
}

pub(super) fn remove_header(_headers: Headers, name: &str) -> Result<(), HostError> {
    record(|context| Call::RemoveHeader(context, name.to_owned()));
    Ok(())
}
