//! What a limit can see of a request.

/// A request as the filter's core sees it: lent by a proxy, or made up by a test.
pub trait Attributes {
    /// A request header, by its name in lower case; `:path`, `:method` and `:authority` included. The values of
    /// a repeated header are joined by commas. `None` where the request has no such header.
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// A property of the proxy's, such as `["source", "address"]`. `None` where the proxy knows none.
    ///
    /// Envoy's are named under "Attributes" in its documentation.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
}

/// A request made up by a test.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Request {
    headers: Vec<(String, Vec<u8>)>,
    source: Option<String>,
}

#[cfg(test)]
impl Request {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn source(mut self, address: &str) -> Self {
        self.source = Some(address.to_owned());
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
        (path == ["source", "address"]).then(|| self.source.clone().map(String::into_bytes))?
    }
}
