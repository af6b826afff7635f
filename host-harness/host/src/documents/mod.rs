//! YAML and JSON documents as trees in which every value has its place.
//!
//! Documents are read as Envoy reads them: the language by the file's name, scalars by the rules of yaml-cpp, fields by
//! protobuf's JSON mapping. Nothing here knows the messages of Envoy. Files that Envoy does not read have YAML's core
//! schema ([`Dialect::Core`]).
//!
//! | module | contents |
//! |---|---|
//! | `source` | a file or standard input, and the documents in its text |
//! | `file` | reader of files, with bounds |
//! | `given` | bounded reading of files, pipes and standard input |
//! | `format` | language of a file by its name |
//! | `encoding` | encodings of YAML |
//! | `yaml` | the tree of a text, from the events of the YAML parser |
//! | `json` | what of YAML is no JSON |
//! | `merge` | merge keys |
//! | `scalar` | types of plain scalars |
//! | `node` | values with their places |
//! | `at` | cursor with a path: fields, list items, and protobuf's spellings of values |
//! | `message` | typed messages: `@type` and `TypedStruct` |
//! | `text` | texts of a document in error texts, without possible passwords |

mod at;
mod encoding;
mod file;
mod format;
mod given;
mod json;
mod merge;
mod message;
mod node;
mod scalar;
mod source;
mod text;
mod yaml;

pub use at::{At, camel_case};
pub use file::{read_module, read_regular};
pub use format::Format;
pub use given::{read_at_most, read_given};
pub use message::{Message, TYPED_STRUCTS};
pub use node::{Entry, Node, Position, Value};
pub use source::{Document, Source, SourceError};
pub(crate) use text::{hidden, named};
pub use text::{quoted, step};
pub use yaml::Dialect;
