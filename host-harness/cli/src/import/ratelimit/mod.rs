//! Limits of envoyproxy/ratelimit, joined with the Envoy rules that make their descriptors.
//!
//! | module | contents |
//! |---|---|
//! | `tree` | reader of the file: a tree of keys and values |
//! | `paths` | paths through the tree that a rule's descriptor can take, each with its condition |
//! | `join` | limits of one filter |

mod join;
mod paths;
mod tree;

pub(super) use self::join::join;
pub(super) use self::tree::{Domain, read};
