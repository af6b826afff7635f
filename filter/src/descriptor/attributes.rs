//! What a limit can see of a request.

use alloc::vec::Vec;

use super::body::RequestBody;
#[cfg(test)]
use super::{body::JsonScanner, json_pointer::JsonPointer};

/// A request as the filter's core sees it: lent by a proxy, or made up by a test.
pub trait Attributes {
    /// A request header, by its name in lower case; `:path`, `:method` and `:authority` included. The values of
    /// a repeated header are joined by commas. `None` where the request has no such header.
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// A property of the proxy's, such as `["source", "address"]`. `None` where the proxy knows none.
    ///
    /// Envoy's are named under "Attributes" in its documentation.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// The request's body, as far as limits read it.
    fn body(&self) -> &RequestBody {
        &RequestBody::None
    }
}

/// A request made up by a test.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Request {
    headers: Vec<(String, Vec<u8>)>,
    properties: Vec<(Vec<String>, Vec<u8>)>,
    body: RequestBody,
}

#[cfg(test)]
impl Request {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn source(self, address: &str) -> Self {
        self.property(&["source", "address"], address)
    }

    pub(crate) fn property(mut self, path: &[&str], value: &str) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.properties.push((path, value.as_bytes().to_vec()));
        self
    }

    /// With a body that is read at a JSON pointer.
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
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect();
        (!values.is_empty()).then(|| values.join(&b","[..]))
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.properties.iter().find(|(known, _)| known == path).map(|(_, value)| value.clone())
    }

    fn body(&self) -> &RequestBody {
        &self.body
    }
}
