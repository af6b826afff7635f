//! Clients and workers beyond the ordinary: any number of workers, pipelined requests, thousands of requests in flight,
//! and clients that leave in every phase. On both hosts.

mod leaving;
mod pipelining;
mod renewals;
mod upstream;
mod workers;

const QUICKSTART: &str = "envoy/quickstart.yaml";
