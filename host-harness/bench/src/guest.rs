//! Guest modules in WAT: they show the cost of wasm itself, with the exports of a minimal SDK filter. One module also
//! calls Redis, and shows the cost of that.

use weir_host::encode_pairs;

use super::{nginx::GCRA, subject::Guest};

/// Headers of a denial by Weir, so that all denials are the same response.
const DENIAL: [(&str, &str); 4] = [
    ("x-ratelimit-limit", "1"),
    ("x-ratelimit-remaining", "0"),
    ("x-ratelimit-reset", "3600"),
    ("retry-after", "3600"),
];

const ASK: &str = include_str!("peers/ask.wat");
/// Size of the gRPC frame header in front of each message, in bytes.
const FRAME_HEADER: usize = 5;

/// The guest's module as wasm bytes.
///
/// # Errors
/// If the WAT is invalid; a test rules this out.
pub(super) fn module(guest: Guest) -> Result<Vec<u8>, wat::Error> {
    let on_request_headers = match guest {
        Guest::NoOp | Guest::FetchBodies => "i32.const 0",
        // Each worker registers a shared queue of its own. A message in it is the id of a paused context.
        Guest::PauseResume => {
            "(if (i32.eqz (i32.load (i32.const 0x100)))
               (then (drop (call $register (i32.const 0) (i32.const 4) (i32.const 0x100)))))
             (i32.store (i32.const 0x104) (local.get $context))
             (drop (call $enqueue (i32.load (i32.const 0x100)) (i32.const 0x104) (i32.const 4)))
             i32.const 1"
        }
        // Local reply 429, with the body at 0, the headers at 0x200 and no gRPC status; then stops the filter chain.
        Guest::Deny => {
            "(drop (call $respond (i32.const 429) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 13)
                                  (i32.const 0x200) (global.get $headers) (i32.const -1)))
             i32.const 1"
        }
        Guest::AskRedis => return wat::parse_str(asking()),
    };
    // Chunks of up to 64 KiB: Envoy's have 16.
    let on_response_body = match guest {
        Guest::FetchBodies => {
            "(call $get_buffer (i32.const 1) (i32.const 0) (local.get $size) (i32.const 0x100) (i32.const 0x104))
             drop"
        }
        _ => "",
    };
    let headers = encode_pairs(DENIAL.iter().map(|(name, value)| (*name, *value)));
    let size = headers.len();
    let headers: String = headers.iter().map(|byte| format!("\\{byte:02x}")).collect();
    wat::parse_str(format!(
        r#"(module
  (import "env" "proxy_send_local_response"
    (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $set_effective_context (param i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "rate limited\n")
  (data (i32.const 0x200) "{headers}")
  (global $headers i32 (i32.const {size}))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize"))
  ;; The host passes small buffers, which the module does not keep.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0x10000)
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
  (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    {on_request_headers})
  ;; The message is at the address that is stored at 0x108.
  (func (export "proxy_on_queue_ready") (param $root i32) (param $queue i32)
    (if (i32.eqz (call $dequeue (local.get $queue) (i32.const 0x108) (i32.const 0x10c)))
      (then
        (if (i32.eqz (call $set_effective_context (i32.load (i32.load (i32.const 0x108)))))
          (then (drop (call $continue (i32.const 0))))))))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) i32.const 0)
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 0)
  (func (export "proxy_on_response_body") (param i32) (param $size i32) (param i32) (result i32)
    {on_response_body}
    i32.const 0)
  (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) i32.const 0)
  (func (export "proxy_on_done") (param i32) (result i32) i32.const 1)
  (func (export "proxy_on_log") (param i32))
  (func (export "proxy_on_delete") (param i32)))"#
    ))
}

/// WAT of the module that calls Redis: it runs the same minimal script as nginx, on a bucket that is never empty.
fn asking() -> String {
    let (emission, fill) = super::stage::AMPLE;
    let script = redis::Script::new(GCRA);
    let mut command = redis::cmd("EVALSHA");
    command.arg(script.get_hash()).arg(1).arg("ask").arg(emission).arg(fill);
    let command = command.get_packed_command();
    let escaped: String = command.iter().map(|byte| format!("\\{byte:02x}")).collect();
    ASK.replace("@command@", &escaped)
        .replace("@size@", &command.len().to_string())
        .replace("@framed@", &command.len().saturating_add(FRAME_HEADER).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_are_wasm() {
        for guest in [Guest::NoOp, Guest::PauseResume, Guest::Deny, Guest::AskRedis, Guest::FetchBodies] {
            let module = module(guest).unwrap();
            assert!(module.starts_with(b"\0asm") && module.len() < 2_200, "{guest:?}: {}", module.len());
        }
    }
}
