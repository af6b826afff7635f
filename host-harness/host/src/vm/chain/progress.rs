//! Progress of a stream, and of its response.

/// State of a stream. Only an open stream takes input.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamState {
    #[default]
    Open,
    /// Reset without a response, or within one.
    Reset,
    /// Over: its contexts have ended.
    Finished,
}

/// Origin of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Upstream,
    /// Local reply of a filter or of the proxy.
    LocalReply,
    /// Local reply for the failure of a filter.
    Failure,
}

/// Progress of a response on its way through the filters, with the origin of the latest response.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    /// No response exists yet.
    #[default]
    Awaited,
    /// The filters have not let the headers pass yet.
    Passing(Origin),
    /// The headers have passed the filters. A local reply comes too late then, and resets the stream.
    Sent(Origin),
    /// A local reply replaced a response that was passing the filters, and bypassed them, as in Envoy.
    Replaced(Origin),
}

impl Response {
    /// Whether the latest response is a local reply, so that the request and the upstream's response are dropped.
    pub(super) fn is_local(self) -> bool {
        matches!(self.origin(), Some(Origin::LocalReply | Origin::Failure))
    }

    pub(super) fn is_for_failure(self) -> bool {
        self.origin() == Some(Origin::Failure)
    }

    /// Returns the progress once headers have passed the filters.
    pub(super) fn after_headers(self) -> Self {
        match self {
            Self::Passing(origin) => Self::Sent(origin),
            other => other,
        }
    }

    /// Returns the progress after a local reply.
    pub(super) fn after_local_reply(self, origin: Origin) -> Self {
        match self {
            Self::Awaited => Self::Passing(origin),
            Self::Passing(_) | Self::Replaced(_) => Self::Replaced(origin),
            Self::Sent(_) => Self::Sent(origin),
        }
    }

    fn origin(self) -> Option<Origin> {
        match self {
            Self::Awaited => None,
            Self::Passing(origin) | Self::Sent(origin) | Self::Replaced(origin) => Some(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_reply_passes_the_filters_unless_a_response_does() {
        let alone = Response::Awaited.after_local_reply(Origin::LocalReply);
        assert_eq!(alone, Response::Passing(Origin::LocalReply));
        assert_eq!(alone.after_headers(), Response::Sent(Origin::LocalReply));
        let replaced = Response::Passing(Origin::Upstream).after_local_reply(Origin::LocalReply);
        assert_eq!(replaced, Response::Replaced(Origin::LocalReply));
        assert_eq!(replaced.after_headers(), replaced);
    }

    #[test]
    fn the_failure_of_a_filter_takes_the_place_of_a_local_reply() {
        for before in [Response::Awaited, Response::Passing(Origin::LocalReply), Response::Sent(Origin::LocalReply)] {
            let after = before.after_local_reply(Origin::Failure);
            assert!(after.is_local() && after.is_for_failure() && !before.is_for_failure(), "{before:?}");
        }
        assert!(!Response::Sent(Origin::Upstream).is_local());
    }
}
