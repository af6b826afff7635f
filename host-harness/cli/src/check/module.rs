//! Wasm file of a plugin: its binary interface, and whether it is Weir's.

use std::path::Path;

use wasmparser::{Parser, Payload};
use weir_host::documents::read_regular;

/// Words of the filter's error about a root id. They are in the data of Weir's module and in no other.
const WORDS_OF_WEIR: &[u8] = b"root_id: expected \"limiter\" or \"bridge\"";
/// Names of exports with which a module names its binary interface. Envoy refuses modules without one of them.
const INTERFACES: [&str; 3] = ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];

/// Names of exports by which a host allocates memory of a module. Envoy refuses modules without one of them.
const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// Kind of a plugin's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Module {
    /// The file cannot be read, for example because it is not there.
    Unreadable(String),
    /// The file is no proxy-wasm module that Envoy runs.
    Refused(Refusal),
    /// A module for proxy-wasm.
    Sound {
        /// Whether it is Weir's.
        is_weir: bool,
    },
}

/// Reason why Envoy does not run a module. The text says what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The file is no wasm.
    #[error("{0} bytes that are no wasm module")]
    NoWasm(usize),
    /// The module does not name the interface, or names another.
    #[error("a wasm module {}", .0.as_ref().map_or("without it".to_owned(), |name| format!("with {name:?}")))]
    Interface(Option<String>),
    /// The module has no allocator.
    #[error("a wasm module without them")]
    Allocator,
}

impl Refusal {
    /// Code that Envoy runs in place of the module.
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Self::NoWasm(_) | Self::Interface(_) => "a wasm module for proxy-wasm 0.1.0, 0.2.0 or 0.2.1",
            Self::Allocator => "a wasm module with an export `malloc` or `proxy_on_memory_allocate`",
        }
    }
}

impl Module {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Self {
        match read_regular(path) {
            Ok(bytes) => Self::of(&bytes),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }

    /// Kind of a module's bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let Some(exports) = exports(bytes) else { return Self::Refused(Refusal::NoWasm(bytes.len())) };
        let mut interfaces = exports.iter().filter(|name| name.starts_with("proxy_abi_version_"));
        if !interfaces.clone().any(|name| INTERFACES.contains(&name.as_str())) {
            return Self::Refused(Refusal::Interface(interfaces.next().cloned()));
        }
        if !exports.iter().any(|name| ALLOCATORS.contains(&name.as_str())) {
            return Self::Refused(Refusal::Allocator);
        }
        let is_weir = bytes.windows(WORDS_OF_WEIR.len()).any(|window| window == WORDS_OF_WEIR);
        Self::Sound { is_weir }
    }
}

/// Names of a module's exports. `None` for bytes that are no module.
fn exports(bytes: &[u8]) -> Option<Vec<String>> {
    if !Parser::is_core_wasm(bytes) {
        return None;
    }
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::ExportSection(section) = payload.ok()? {
            for export in section {
                names.push(export.ok()?.name.to_owned());
            }
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module of one function, with the given exports.
    fn exporting(names: &[&str]) -> Vec<u8> {
        let mut bytes = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0".to_vec();
        let length = |length: usize| u8::try_from(length).expect("short");
        let section = names.iter().map(|name| name.len() + 3).sum::<usize>() + 1;
        bytes.extend([7, length(section), length(names.len())]);
        for name in names {
            bytes.push(length(name.len()));
            bytes.extend(name.as_bytes());
            bytes.extend(b"\0\0");
        }
        bytes.extend(b"\x0a\x04\x01\x02\0\x0b");
        bytes
    }

    #[test]
    fn a_module_names_its_interface() {
        let sound = exporting(&["proxy_abi_version_0_2_1", "malloc"]);
        assert_eq!(Module::of(&sound), Module::Sound { is_weir: false });
        let unknown = Module::of(&exporting(&["proxy_abi_version_9", "malloc"]));
        assert_eq!(unknown, Module::Refused(Refusal::Interface(Some("proxy_abi_version_9".to_owned()))));
        assert_eq!(Module::of(&exporting(&["main"])), Module::Refused(Refusal::Interface(None)));
        assert_eq!(Module::of(b"#!/bin/sh"), Module::Refused(Refusal::NoWasm(9)));
        assert_eq!(Module::of(b"\0asm\x01\0\0\0\x07\xff"), Module::Refused(Refusal::NoWasm(10)));
    }

    #[test]
    fn a_module_has_an_allocator() {
        let with = |name: &str| Module::of(&exporting(&["proxy_abi_version_0_2_1", name]));
        assert_eq!(with("proxy_on_memory_allocate"), Module::Sound { is_weir: false });
        assert_eq!(with("proxy_on_memory_free"), Module::Refused(Refusal::Allocator));
    }
}
