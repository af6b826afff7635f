//! Envoy files, and what is in them that concerns wasm and Weir: the only finder of limiters.
//!
//! | module | contents |
//! |---|---|
//! | `library` | the files given, the files that they refer to, and the texts in Kubernetes manifests |
//! | `kubernetes` | the parts of Kubernetes manifests that a control plane makes plugins, clusters and filters of |
//! | `finder` | plugins, filter chains and clusters in documents |
//! | `written` | the configuration of a limiter, as the filter gets it, with the places of its values |

mod finder;
mod kubernetes;
mod library;
mod written;

pub(crate) use self::finder::{
    Chain, ChainKind, Cluster, Code, Filter, Inventory, Limiter, Plugin, RedisProxy, Role, Site, Tls, is_alone,
};
pub(crate) use self::kubernetes::{Declaration, Kind, Mesh, Part, is_for_gateway, is_manifest, is_of_control_plane};
pub(crate) use self::library::{File, Group, Library, is_bootstrap, is_config_source, references};
pub(crate) use self::written::{Unwritten, Written};
