//! Paths of properties of a request.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// Path of a property of the proxy, see "Attributes" in Envoy's documentation.
///
/// The value is text. A number in dynamic metadata is written as in JSON, a boolean as `true` or `false`; `null`, a
/// list and an object have no value. Envoy does not distinguish an empty value from none: both count as none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyPath(pub(super) Vec<String>);

impl PropertyPath {
    /// Name of the selected route. Envoy's own `route_name` is not set before the router runs.
    #[must_use]
    pub fn route_name() -> Self {
        Self(vec!["xds".to_owned(), "route_name".to_owned()])
    }

    /// Name of the route's cluster. Envoy's own `cluster_name` is not set before the router runs either.
    #[must_use]
    pub fn cluster_name() -> Self {
        Self(vec!["xds".to_owned(), "cluster_name".to_owned()])
    }

    /// Dynamic metadata that the filter named `key` has set for the request, at `path`. The verified claims of a JSON
    /// Web Token are under `envoy.filters.http.jwt_authn`, `payload_in_metadata` and the claim's name.
    #[must_use]
    pub fn dynamic_metadata(key: &str, path: &[&str]) -> Self {
        Self(["metadata", "filter_metadata", key].iter().chain(path).map(|part| (*part).to_owned()).collect())
    }

    /// Filter state named `key`.
    #[must_use]
    pub fn filter_state(key: &str) -> Self {
        Self(vec!["filter_state".to_owned(), key.to_owned()])
    }
}
