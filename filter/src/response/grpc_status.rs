//! gRPC status codes (grpc.io, "Status codes").

use alloc::borrow::ToOwned;
use alloc::string::String;

/// gRPC status of an error: 1 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcStatus(u8);

/// Names of the codes from 1.
const NAMES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl GrpcStatus {
    /// Names of all statuses but `OK`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) const NAMES: [&str; 16] = NAMES;
    /// 3.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// 8.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// 14.
    pub const UNAVAILABLE: Self = Self(14);

    /// Returns the status of a code. `None` for 0, which is `OK`, and for codes that gRPC does not define.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        u8::try_from(code).ok().filter(|code| (1..=16).contains(code)).map(Self)
    }

    /// Returns the status of a name in capitals, such as `UNAVAILABLE`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let index = NAMES.iter().position(|known| *known == name)?;
        Self::from_code(u64::try_from(index).ok()?.saturating_add(1))
    }

    /// Name of the status in Connect: in lower case, and `canceled` with one `l`.
    pub(super) fn connect_code(self) -> String {
        match self.name() {
            "CANCELLED" => "canceled".to_owned(),
            name => name.to_ascii_lowercase(),
        }
    }

    /// Name of the status in capitals.
    pub(super) fn name(self) -> &'static str {
        usize::from(self.0).checked_sub(1).and_then(|index| NAMES.get(index)).unwrap_or(&"CANCELLED")
    }

    /// Numeric code of the status.
    #[must_use]
    pub fn code(self) -> u32 {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_name_and_a_number() {
        assert_eq!(GrpcStatus::from_name("RESOURCE_EXHAUSTED"), Some(GrpcStatus::RESOURCE_EXHAUSTED));
        assert_eq!(GrpcStatus::from_name("INVALID_ARGUMENT"), Some(GrpcStatus::INVALID_ARGUMENT));
        assert_eq!(GrpcStatus::from_name("UNAVAILABLE"), Some(GrpcStatus::UNAVAILABLE));
        assert_eq!(GrpcStatus::from_name("UNAUTHENTICATED").map(GrpcStatus::code), Some(16));
        assert_eq!(GrpcStatus::from_name("CANCELLED").map(GrpcStatus::code), Some(1));
    }

    #[test]
    fn ok_is_no_denial() {
        assert_eq!((GrpcStatus::from_code(0), GrpcStatus::from_name("OK")), (None, None));
        assert_eq!(GrpcStatus::from_code(17), None);
        assert_eq!(GrpcStatus::from_code(264), None);
    }

    #[test]
    fn connect_has_names_of_its_own() {
        assert_eq!(GrpcStatus::RESOURCE_EXHAUSTED.connect_code(), "resource_exhausted");
        assert_eq!(GrpcStatus::from_code(1).unwrap().connect_code(), "canceled");
    }
}
