//! HTTP streams as filters see them: headers, the state that the filters of a stream share, and local replies.
//!
//! Everything else in this crate uses these types and none of them uses wasm: `abi` shows a stream to modules, `native`
//! to Envoy's own filters, `vm` runs its filter chain, `server` and `upstream` move its bytes.

mod changes;
mod headers;
pub(crate) mod joined;
pub(crate) mod local_reply;
mod response_flags;
mod stream;

pub(crate) use changes::{HeaderChange, apply};
pub(crate) use headers::Headers;
pub(crate) use local_reply::LocalReply;
pub(crate) use response_flags::{ResponseFlag, ResponseFlags};
pub(crate) use stream::{ConnectionInfo, Direction, FilterView, Stream, StreamControl, StreamInfo};
