//! Response flags: reasons of a response that is not the upstream's, as access logs and filters see them.

/// Response flag that the harness can set, in Envoy's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseFlag {
    NoHealthyUpstream,
    UpstreamRequestTimeout,
    UpstreamRemoteReset,
    UpstreamConnectionFailure,
    UpstreamConnectionTermination,
    NoRouteFound,
    DownstreamConnectionTermination,
    StreamIdleTimeout,
    DownstreamProtocolError,
    UpstreamProtocolError,
    NoClusterFound,
}

/// Set of response flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ResponseFlags(u64);

impl ResponseFlag {
    const ALL: [Self; 11] = [
        Self::NoHealthyUpstream,
        Self::UpstreamRequestTimeout,
        Self::UpstreamRemoteReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::NoRouteFound,
        Self::DownstreamConnectionTermination,
        Self::StreamIdleTimeout,
        Self::DownstreamProtocolError,
        Self::UpstreamProtocolError,
        Self::NoClusterFound,
    ];

    /// Number in Envoy's `CoreResponseFlag`, and the texts of `%RESPONSE_FLAGS%` and `%RESPONSE_FLAGS_LONG%`.
    fn names(self) -> (u32, &'static str, &'static str) {
        match self {
            Self::NoHealthyUpstream => (1, "UH", "NoHealthyUpstream"),
            Self::UpstreamRequestTimeout => (2, "UT", "UpstreamRequestTimeout"),
            Self::UpstreamRemoteReset => (4, "UR", "UpstreamRemoteReset"),
            Self::UpstreamConnectionFailure => (5, "UF", "UpstreamConnectionFailure"),
            Self::UpstreamConnectionTermination => (6, "UC", "UpstreamConnectionTermination"),
            Self::NoRouteFound => (8, "NR", "NoRouteFound"),
            Self::DownstreamConnectionTermination => (14, "DC", "DownstreamConnectionTermination"),
            Self::StreamIdleTimeout => (16, "SI", "StreamIdleTimeout"),
            Self::DownstreamProtocolError => (18, "DPE", "DownstreamProtocolError"),
            Self::UpstreamProtocolError => (23, "UPE", "UpstreamProtocolError"),
            Self::NoClusterFound => (24, "NC", "NoClusterFound"),
        }
    }

    fn bit(self) -> u64 {
        1 << self.names().0
    }
}

impl ResponseFlags {
    /// Returns the set with one more flag.
    pub(crate) fn with(self, flag: ResponseFlag) -> Self {
        Self(self.0 | flag.bit())
    }

    /// Bits of the attribute `response.flags`.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Short names such as `UF,URX`; a dash without flags.
    pub(crate) fn short(self) -> String {
        self.text(|flag| flag.names().1)
    }

    /// Long names such as `UpstreamConnectionFailure`; a dash without flags.
    pub(crate) fn long(self) -> String {
        self.text(|flag| flag.names().2)
    }

    fn text(self, name: impl Fn(ResponseFlag) -> &'static str) -> String {
        let set = ResponseFlag::ALL.into_iter().filter(|flag| self.0 & flag.bit() != 0);
        let names: Vec<&str> = set.map(name).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_in_the_order_of_their_numbers() {
        let none = ResponseFlags::default();
        assert_eq!((none.short().as_str(), none.long().as_str(), none.bits()), ("-", "-", 0));
        let flags = none.with(ResponseFlag::DownstreamConnectionTermination).with(ResponseFlag::NoHealthyUpstream);
        assert_eq!(flags.short(), "UH,DC");
        assert_eq!(flags.long(), "NoHealthyUpstream,DownstreamConnectionTermination");
        assert_eq!(flags.bits(), 1 << 1 | 1 << 14);
    }

    #[test]
    fn each_flag_has_its_own_number_and_names() {
        let numbers: Vec<u32> = ResponseFlag::ALL.iter().map(|flag| flag.names().0).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}
