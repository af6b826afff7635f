//! Requests to the hosts of a mesh.

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use weir_provision::client::Client;

use crate::Answer;
use crate::mesh::{ANSWER_WITHIN, Mesh, USER};

/// Builder of a request; see [`Mesh::ask`].
#[derive(Debug)]
pub struct Ask<'a> {
    mesh: &'a Mesh,
    host: usize,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

impl<'a> Ask<'a> {
    /// Creates a GET of `path` to the first host.
    pub(crate) fn new(mesh: &'a Mesh, path: &str) -> Self {
        Self { mesh, host: 0, method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: String::new() }
    }

    /// Adds this user's name as `x-user-id`.
    pub fn user(self, name: &str) -> Self {
        self.header(USER.as_str(), name)
    }

    /// Adds a header, and keeps others of the same name.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::try_from(name).expect("a header's name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header's value"));
        self
    }

    /// Sets the method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    /// Sends the request to the host of this number, from 0.
    pub fn via(mut self, host: usize) -> Self {
        self.host = host;
        self
    }

    /// Sends the request on a new connection.
    ///
    /// # Panics
    /// If there is no response within a minute.
    pub async fn send(self) -> Answer {
        let mut client = Client::new(self.mesh.ingress()[self.host], ANSWER_WITHIN);
        client
            .send(&self.method, &self.path, &self.headers, self.body.into())
            .await
            .expect("every request is answered")
            .into()
    }
}
