//! HTTP status of the filter's own replies.

use core::num::NonZeroU16;

/// HTTP status of a denial or an error: 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorStatus(NonZeroU16);

impl ErrorStatus {
    /// Least status: 400.
    pub const MIN: Self = Self::BAD_REQUEST;
    /// Greatest status: 599.
    pub const MAX: Self = Self(NonZeroU16::MIN.saturating_add(598));
    /// 400.
    pub const BAD_REQUEST: Self = Self(NonZeroU16::MIN.saturating_add(399));
    /// 411.
    pub const LENGTH_REQUIRED: Self = Self(NonZeroU16::MIN.saturating_add(410));
    /// 431.
    pub const HEADERS_TOO_LARGE: Self = Self(NonZeroU16::MIN.saturating_add(430));
    /// 429.
    pub const TOO_MANY_REQUESTS: Self = Self(NonZeroU16::MIN.saturating_add(428));
    /// 503.
    pub const SERVICE_UNAVAILABLE: Self = Self(NonZeroU16::MIN.saturating_add(502));

    /// Returns the status of a code. `None` for codes below 400 and above 599.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        let code = u16::try_from(code).ok().filter(|code| (Self::MIN.code()..=Self::MAX.code()).contains(code))?;
        NonZeroU16::new(code).map(Self)
    }

    /// The status as a number.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0.get()
    }
}
