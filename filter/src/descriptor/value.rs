//! Values of sources, borrowed from the request where possible.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use core::ops::Deref;

/// Value of a source: any bytes that the client sent.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Bytes borrowed from the request's headers, or from the configuration.
    Lent(&'a [u8]),
    /// Owned bytes: decoded, joined, or read from the proxy.
    Kept(Rc<[u8]>),
}

impl Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Lent(text.as_bytes())
    }
}

impl<'a> From<Cow<'a, [u8]>> for Value<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => Self::Lent(bytes),
            Cow::Owned(bytes) => Self::Kept(Rc::from(bytes)),
        }
    }
}
