//! Filter state set from format strings when the request headers arrive. (Envoy, "Set-Filter-State Filter".)

use crate::access_log::Format;
use crate::http::Stream;

/// Configuration of `set_filter_state`.
#[derive(Debug, Clone)]
pub struct SetFilterState {
    /// Values to set, in order; a later value of a key replaces an earlier value.
    pub on_request_headers: Vec<FilterStateValue>,
}

/// Value of filter state, an `envoy.string`.
#[derive(Debug, Clone)]
pub struct FilterStateValue {
    /// Key of the value.
    pub object_key: String,
    /// Format string of the value.
    pub format: Format,
    /// Whether an empty value is not set.
    pub skip_if_empty: bool,
}

impl SetFilterState {
    pub(super) fn on_request_headers(&self, stream: &Stream) {
        for state in &self.on_request_headers {
            let value = state.format.render(stream);
            if !(value.is_empty() && state.skip_if_empty) {
                stream.filter_state.borrow_mut().insert(state.object_key.clone().into_bytes(), value.into_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(skip_if_empty: bool, omit_empty_values: bool) -> Option<Vec<u8>> {
        let format = Format::parse("%REQ(x-tenant)%", omit_empty_values).unwrap();
        let value = FilterStateValue { object_key: "tenant".to_owned(), format, skip_if_empty };
        let stream = Stream::default();
        SetFilterState { on_request_headers: vec![value] }.on_request_headers(&stream);
        stream.filter_state.take().remove(&b"tenant"[..])
    }

    #[test]
    fn an_empty_value_can_be_skipped() {
        assert_eq!(state_of(true, true), None);
        assert_eq!(state_of(false, true), Some(Vec::new()));
        assert_eq!(state_of(true, false), Some(b"-".to_vec()), "a missing header is a dash, which is not empty");
    }
}
