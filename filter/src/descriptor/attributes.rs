//! Attributes of a request that limits read.

use alloc::borrow::Cow;
use alloc::vec::Vec;
#[cfg(test)]
use core::cell::OnceCell;

use super::body::RequestBody;
use super::memo::Memo;
#[cfg(test)]
use super::{body::JsonScanner, json_pointer::JsonPointer};
use crate::pairs;

/// Request, as provided by a proxy or by a test.
pub trait Attributes {
    /// All request headers, including `:path`, `:method` and `:authority`, as proxy-wasm encodes pairs. Names are in
    /// lower case, and a repeated header has a pair for each of its values.
    fn headers(&self) -> &[u8];

    /// Property of the proxy, such as `["source", "address"]`. `None` if the proxy has no value.
    ///
    /// Envoy's documentation lists its properties under "Attributes".
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// Values of the request's body that limits read.
    fn body(&self) -> &RequestBody {
        &RequestBody::None
    }

    /// Memo of this request: values that its limits have already read.
    fn memo(&self) -> &Memo;
}

impl dyn Attributes + '_ {
    /// Returns a request header by its name in lower case. The values of a repeated header are joined by commas, those
    /// of `cookie` by semicolons. `None` if the request does not have the header.
    #[must_use]
    #[inline(never)]
    pub fn header<'a>(&'a self, name: &'a str) -> Option<Cow<'a, [u8]>> {
        let mut values = pairs::values(self.headers(), name.as_bytes());
        let mut all = Cow::Borrowed(values.next()?);
        let separator: &[u8] = if name == "cookie" { b"; " } else { b"," };
        for value in values {
            let all = all.to_mut();
            all.extend_from_slice(separator);
            all.extend_from_slice(value);
        }
        Some(all)
    }
}

/// Request of a test.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Request {
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    encoded: OnceCell<Vec<u8>>,
    properties: Vec<(Vec<String>, Vec<u8>)>,
    body: RequestBody,
    memo: Memo,
}

#[cfg(test)]
impl Request {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn source(self, address: &str) -> Self {
        self.property(&["source", "address"], address)
    }

    pub(crate) fn property(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.properties.push((path, value.as_ref().to_vec()));
        self
    }

    /// Sets a body that is read at a JSON pointer.
    pub(crate) fn json(self, pointer: &str, body: &str) -> Self {
        let mut scanner = JsonScanner::new(&Vec::from_iter(JsonPointer::parse(pointer)).into(), 1);
        scanner.push(body.as_bytes());
        self.body(scanner.into_values().into())
    }

    pub(crate) fn body(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }
}

#[cfg(test)]
impl Attributes for Request {
    fn headers(&self) -> &[u8] {
        self.encoded.get_or_init(|| pairs::encode(self.headers.iter().map(|(name, value)| (name, value))))
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.properties.iter().find(|(known, _)| known == path).map(|(_, value)| value.clone())
    }

    fn body(&self) -> &RequestBody {
        &self.body
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}
