//! Versions of the proxy-wasm ABI, and the host functions that only some of them have.

use wasmtime::{Linker, Module};

use super::state::HostState;
use super::{config, foreign, get_log_level, stream};

/// Version of the ABI that a module was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Abi {
    /// Header callbacks have no `end_of_stream`, and a missing header is an empty one.
    V0_1_0,
    V0_2_0,
    V0_2_1,
}

impl Abi {
    /// Returns the version that a module exports first; `None` if it exports none.
    pub(crate) fn of(module: &Module) -> Option<Self> {
        module.exports().find_map(|export| match export.name() {
            "proxy_abi_version_0_1_0" => Some(Self::V0_1_0),
            "proxy_abi_version_0_2_0" => Some(Self::V0_2_0),
            "proxy_abi_version_0_2_1" => Some(Self::V0_2_1),
            _ => None,
        })
    }

    /// Adds the host functions that only some versions have. A module with another version's import is refused, as in
    /// Envoy.
    pub(crate) fn add_to_linker(self, linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
        if self == Self::V0_1_0 {
            linker.func_wrap("env", "proxy_get_configuration", config::configuration)?;
            linker.func_wrap("env", "proxy_continue_request", stream::continue_request)?;
            linker.func_wrap("env", "proxy_continue_response", stream::continue_response)?;
            linker.func_wrap("env", "proxy_clear_route_cache", foreign::clear_route_cache)?;
            return Ok(());
        }
        linker.func_wrap("env", "proxy_continue_stream", stream::continue_stream)?;
        linker.func_wrap("env", "proxy_close_stream", stream::close_stream)?;
        if self == Self::V0_2_1 {
            linker.func_wrap("env", "proxy_get_log_level", get_log_level)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the names in the first column of the table of host functions in docs/src/abi.md.
    fn documented() -> BTreeSet<String> {
        let page = include_str!("../../../../docs/src/abi.md");
        let table = page.split("| host function |").nth(1).unwrap().split("\n\n").next().unwrap();
        let first_columns = table.lines().filter_map(|row| row.strip_prefix("| `")?.split('|').next());
        first_columns
            .flat_map(|names| names.split('`').step_by(2).filter(|it| !it.trim().is_empty()))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_documentation_lists_every_host_function_and_no_other() {
        let engine = wasmtime::Engine::default();
        let mut linked = BTreeSet::new();
        for abi in [Abi::V0_1_0, Abi::V0_2_0, Abi::V0_2_1] {
            let mut linker = Linker::new(&engine);
            crate::abi::add_to_linker(&mut linker).unwrap();
            abi.add_to_linker(&mut linker).unwrap();
            let mut store = wasmtime::Store::new(&engine, crate::fuzzing::host_state(abi, 0));
            let of_env = linker.iter(&mut store).filter(|(module, _, _)| *module == "env");
            linked.extend(of_env.map(|(_, name, _)| name.to_owned()));
        }
        assert_eq!(linked, documented());
    }
}
