//! Language of a file, by its name.

/// UTF-8 byte order mark. Envoy accepts it in YAML, and refuses it in JSON.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Language that Envoy expects of a file, by the end of its name in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `.yaml` or `.yml`.
    Yaml,
    /// `.json`.
    Json,
    /// `.pb_text`: protobuf's text format.
    ProtobufText,
    /// `.pb`: a serialised protobuf.
    ProtobufBinary,
    /// Another name: Envoy expects JSON.
    Other,
}

impl Format {
    /// Format of a file with this name.
    pub fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let ends = |end: &str| name.ends_with(end);
        match () {
            () if ends(".yaml") || ends(".yml") => Self::Yaml,
            () if ends(".json") => Self::Json,
            () if ends(".pb_text") => Self::ProtobufText,
            () if ends(".pb") => Self::ProtobufBinary,
            () => Self::Other,
        }
    }

    /// Name of a form of protobuf, which only Envoy reads.
    pub(super) fn protobuf(self) -> Option<&'static str> {
        match self {
            Self::ProtobufText => Some("protobuf's text format, by the file's name"),
            Self::ProtobufBinary => Some("a serialised protobuf, by the file's name"),
            Self::Yaml | Self::Json | Self::Other => None,
        }
    }
}
