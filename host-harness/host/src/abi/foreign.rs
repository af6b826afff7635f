//! Foreign functions: `proxy_call_foreign_function` with the names that Envoy has.
//!
//! | function | here |
//! |---|---|
//! | `clear_route_cache` | `Ok`: routes are looked up on each use |
//! | `declare_property` | as in Envoy, for values of bytes or text |
//! | `set_envoy_filter_state` | the key `envoy.string`; other keys are not found |
//! | `compress`, `uncompress` | zlib |
//! | `expr_create`, `expr_evaluate`, `expr_delete`, `sign`, `verify_signature` | not found |

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use wasmtime::Caller;

use super::host_line;
use super::memory::{Fault, Guest, Status, answer};
use super::state::HostState;
use super::wire;
use crate::log_lines::printable_name;

type Answer = wasmtime::Result<u32>;

/// Calls a foreign function.
///
/// As in Envoy, the results are written if `results_at` is not 0: also by a known function that fails, then empty.
pub(super) fn call(
    mut caller: Caller<'_, HostState>,
    name: u32,
    name_length: u32,
    arguments: u32,
    arguments_length: u32,
    results_at: u32,
    length_at: u32,
) -> Answer {
    let mut guest = Guest::new(&mut caller);
    answer((|| {
        let name = guest.read(name, name_length)?;
        let arguments = guest.read(arguments, arguments_length)?;
        let returned = match name.as_slice() {
            b"clear_route_cache" => Ok(Vec::new()),
            b"declare_property" => declare_property(guest.state(), &arguments),
            b"set_envoy_filter_state" => set_filter_state(guest.state(), &arguments),
            b"compress" => compress(&arguments),
            b"uncompress" => uncompress(&arguments, guest.state().usage.memory_limit()),
            _ => {
                let name = printable_name(&name);
                let line = format_args!("a module called the foreign function `{name}`, which is unknown here");
                host_line(guest.state(), log::Level::Debug, line);
                return Err(Status::NotFound.into());
            }
        };
        let results = returned.as_deref().unwrap_or_default();
        guest.give_wanted(results, results_at, length_at)?;
        returned.map(drop)
    })())
}

pub(super) fn clear_route_cache(_caller: Caller<'_, HostState>) -> Answer {
    Ok(Status::Ok as u32)
}

/// Declares a property that the module will set. (Envoy: `DeclarePropertyArguments`.)
fn declare_property(state: &mut HostState, arguments: &[u8]) -> Result<Vec<u8>, Fault> {
    let fields = wire::fields(arguments).ok_or(Status::BadArgument)?;
    let name = wire::bytes(&fields, 1).to_vec();
    let readonly = wire::number(&fields, 2) != 0;
    state.usage.keep(name.len())?;
    let declared = state.declared()?;
    if declared.contains_key(&name) {
        return Err(Status::BadArgument.into());
    }
    declared.insert(name, readonly);
    Ok(Vec::new())
}

/// Sets a value of filter state that other filters read. (Envoy: `SetEnvoyFilterStateArguments`.)
fn set_filter_state(state: &mut HostState, arguments: &[u8]) -> Result<Vec<u8>, Fault> {
    let fields = wire::fields(arguments).ok_or(Status::BadArgument)?;
    let (key, value) = (wire::bytes(&fields, 1).to_vec(), wire::bytes(&fields, 2).to_vec());
    // The key names the type of the value too: `envoy.string` is the only type that the harness knows.
    if key != b"envoy.string" {
        return Err(Status::NotFound.into());
    }
    state.usage.keep(key.len() + value.len())?;
    let http = state.http().ok_or(Status::NotFound)?;
    http.stream.filter_state.borrow_mut().insert(key, value);
    Ok(Vec::new())
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|_| Status::SerializationFailure.into())
}

/// Uncompresses at most as many bytes as a module can have.
fn uncompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let mut plain = Vec::new();
    let mut decoder = ZlibDecoder::new(bytes).take(limit as u64 + 1);
    match decoder.read_to_end(&mut plain) {
        Ok(length) if length <= limit => Ok(plain),
        _ => Err(Status::SerializationFailure.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_bytes_are_the_same_after_uncompressing() {
        let plain = b"again and again and again and again".repeat(100);
        let packed = compress(&plain).ok().unwrap();
        assert!(packed.len() < plain.len() / 10);
        assert_eq!(uncompress(&packed, plain.len()).ok(), Some(plain));
    }

    #[test]
    fn bytes_that_would_exceed_the_limit_or_are_damaged_are_refused() {
        let bomb = compress(&vec![0; 1_000_000]).ok().unwrap();
        for (bytes, limit) in [(bomb.as_slice(), 999_999), (&bomb[..100], 1_000_000), (b"no zlib", 1_000_000)] {
            assert!(matches!(uncompress(bytes, limit), Err(Fault::Status(Status::SerializationFailure))), "{limit}");
        }
    }
}
