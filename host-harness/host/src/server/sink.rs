//! Responses of upstreams on their way into the downstream filter chain.

use std::rc::{Rc, Weak};

use bytes::Bytes;
use tokio::time::Instant;

use super::router::RouteMutations;
use crate::http::{Headers, LocalReply, ResponseFlag, apply};
use crate::upstream::{Failure, ResponseSink};
use crate::vm::chain::Chain;

/// Sink that passes an upstream's response into the downstream filter chain.
pub(super) struct ToDownstream {
    pub(super) chain: Weak<Chain>,
    pub(super) asked: Instant,
    pub(super) mutations: RouteMutations,
}

impl ToDownstream {
    /// Answers in the place of the upstream; resets the stream if the response has begun.
    fn give_up(&self, flag: ResponseFlag, reply: LocalReply) {
        self.with_chain(|chain| {
            if chain.is_replied() {
                return;
            }
            chain.stream.info.add_flag(flag);
            chain.reply(reply);
        });
    }

    fn with_chain(&self, act: impl FnOnce(&Chain)) {
        if let Some(chain) = self.chain.upgrade() {
            act(&chain);
        }
    }
}

impl ResponseSink for ToDownstream {
    fn headers(&self, mut headers: Headers, end: bool) {
        headers.set("x-envoy-upstream-service-time", self.asked.elapsed().as_millis().to_string());
        self.with_chain(|chain| {
            if chain.is_replied() {
                return;
            }
            chain.stream.info.response_details.replace("via_upstream".to_owned());
            // Values of the changes may name headers of the response.
            chain.stream.response_headers.replace(Some(headers.clone()));
            apply(&self.mutations.of_response(&chain.stream), &mut headers);
            chain.response_headers(headers, end);
        });
    }

    fn data(&self, data: Bytes, end: bool) {
        self.with_chain(|chain| chain.response_data(data, end));
    }

    fn trailers(&self, trailers: Headers) {
        self.with_chain(|chain| chain.response_trailers(trailers));
    }

    fn failed(&self, why: &Failure, has_begun: bool) {
        self.give_up(why.flag(), LocalReply { details: why.details(has_begun), ..why.reply() });
    }

    fn backlog(&self) -> Option<Rc<Chain>> {
        self.chain.upgrade().filter(|chain| chain.is_full())
    }
}

/// Returns a local reply of the router.
pub(crate) fn reply(status: u16, body: &str, details: &str) -> LocalReply {
    LocalReply {
        status,
        body: Bytes::copy_from_slice(body.as_bytes()),
        details: details.to_owned(),
        ..LocalReply::default()
    }
}
