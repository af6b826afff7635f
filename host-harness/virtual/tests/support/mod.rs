//! Meshes and exchanges of tests in virtual time.

use std::rc::Rc;

use weir_filter::units::Micros;
use weir_virtual::{Exchange, Mesh, Start, Upstream};

/// 2026-01-01T00:00Z.
const NEW_YEAR: Micros = Micros::from_secs(1_767_225_600);

/// Starts workers at the beginning of a year, with this time for a message to Redis and back.
///
/// # Errors
/// Those of the configuration.
pub(crate) fn start(workers: usize, configuration: &str, round_trip: Micros) -> Result<Mesh, Vec<String>> {
    let start = Start {
        configuration: configuration.as_bytes(),
        environment: &[],
        seed: 7,
        sees_body_past_headers: true,
        round_trip,
    };
    Mesh::start(NEW_YEAR, workers, &start)
}

/// Request with these headers, which the upstream answers after `takes`.
pub(crate) fn exchange(headers: &[(&str, &str)], takes: Micros) -> Exchange {
    let standard = [(":method", "GET"), (":path", "/"), (":authority", "test")];
    let headers = standard.iter().chain(headers);
    Exchange {
        headers: headers.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        body: None,
        properties: Rc::new(|_: &[&str]| None),
        upstream: Upstream {
            status: 200,
            headers: Vec::new(),
            body: b"hello\n".to_vec(),
            takes,
            ..Upstream::default()
        },
    }
}
