;; Guest that sends the same script call to Redis for every request, over the same kind of stream as Weir, and resumes
;; the request on any reply: the minimum for a wasm filter that calls Redis per request. Limiter and bridge share a VM.
;; The guest resumes all requests with a reply in one callback, which Weir must not do: the stack overflows with 1,000
;; connections. 256 connections work.
;; Placeholders: @command@ is the script call, @size@ its length in bytes, @framed@ its length with gRPC framing.
(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_every (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $act_as (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_grpc_stream"
    (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 8)
  (data (i32.const 0x000) "redis")
  (data (i32.const 0x010) "ask.Redis")
  (data (i32.const 0x020) "ask")
  (data (i32.const 0x030) "content-type")
  (data (i32.const 0x040) "application/grpc")
  ;; 0x050: an empty list of pairs; 0x060: the stream's token; 0x064, 0x068: address and size of a buffer.
  (data (i32.const 0x8000) "@command@")
  ;; From 0x1000: ring of up to 4,096 paused contexts, in the order of the replies.
  (global $first (mut i32) (i32.const 0))
  (global $next (mut i32) (i32.const 0))
  (global $limiter (mut i32) (i32.const 0))
  (global $bridge (mut i32) (i32.const 0))
  (global $stream (mut i32) (i32.const 0))
  (global $is_wanted (mut i32) (i32.const 0))
  (global $is_open (mut i32) (i32.const 0))
  (func $place (param $nth i32) (result i32)
    (i32.add (i32.const 0x1000) (i32.shl (i32.and (local.get $nth) (i32.const 0xfff)) (i32.const 2))))
  (func (export "proxy_abi_version_0_2_1"))
  ;; 255 copies of the command follow it: calls sent before the connection exists reach the bridge as one body.
  (func (export "_initialize")
    (local $copies i32)
    (loop $copy
      (local.set $copies (i32.add (local.get $copies) (i32.const 1)))
      (memory.copy (i32.add (i32.const 0x8000) (i32.mul (local.get $copies) (i32.const @size@)))
                   (i32.const 0x8000) (i32.const @size@))
      (br_if $copy (i32.lt_u (local.get $copies) (i32.const 255)))))
  ;; One buffer for everything that the host passes: the guest reads it immediately.
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0x40000)
  ;; The only context of the bridge is its stream's; its root is not the limiter's.
  (func (export "proxy_on_context_create") (param $context i32) (param $root i32)
    (if (i32.and (i32.ne (local.get $root) (i32.const 0)) (i32.ne (local.get $root) (global.get $limiter)))
      (then (global.set $stream (local.get $context)))))
  ;; The limiter has a configuration, the bridge has none.
  (func (export "proxy_on_configure") (param $root i32) (param $size i32) (result i32)
    (if (local.get $size)
      (then
        (global.set $limiter (local.get $root))
        (drop (call $tick_every (i32.const 10)))))
    i32.const 1)
  (func (export "proxy_on_tick") (param i32)
    (if (i32.and (global.get $is_wanted) (i32.eqz (global.get $is_open)))
      (then
        (global.set $is_open
          (i32.eqz (call $open (i32.const 0x000) (i32.const 5) (i32.const 0x010) (i32.const 9)
                               (i32.const 0x020) (i32.const 3) (i32.const 0x050) (i32.const 4) (i32.const 0x060)))))))
  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    (if (i32.eq (local.get $context) (global.get $stream)) (then (return (i32.const 0))))
    (global.set $is_wanted (i32.const 1))
    (if (i32.eqz (global.get $is_open)) (then (return (i32.const 0))))
    (i32.store (call $place (global.get $next)) (local.get $context))
    (global.set $next (i32.add (global.get $next) (i32.const 1)))
    (drop (call $act_as (global.get $limiter)))
    (drop (call $send (i32.load (i32.const 0x060)) (i32.const 0x8000) (i32.const @size@) (i32.const 0)))
    i32.const 1)
  ;; Replaces the framed messages with commands: each message has five bytes of framing.
  (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param i32) (result i32)
    (if (i32.eq (local.get $context) (global.get $stream))
      (then
        (drop (call $set_buffer (i32.const 0) (i32.const 0) (local.get $size) (i32.const 0x8000)
          (i32.mul (i32.div_u (local.get $size) (i32.const @framed@)) (i32.const @size@))))))
    i32.const 0)
  (func (export "proxy_on_response_headers") (param $context i32) (param i32 i32) (result i32)
    (if (i32.eq (local.get $context) (global.get $stream))
      (then
        (drop (call $set_header (i32.const 2) (i32.const 0x030) (i32.const 12) (i32.const 0x040) (i32.const 16)))))
    i32.const 0)
  ;; Each line of the body is a reply.
  (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param i32) (result i32)
    (local $at i32)
    (local $end i32)
    (if (i32.ne (local.get $context) (global.get $stream)) (then (return (i32.const 0))))
    (drop (call $get_buffer (i32.const 1) (i32.const 0) (local.get $size) (i32.const 0x064) (i32.const 0x068)))
    (drop (call $set_buffer (i32.const 1) (i32.const 0) (local.get $size) (i32.const 0) (i32.const 0)))
    (local.set $at (i32.load (i32.const 0x064)))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 0x068))))
    (block $all
      (loop $bytes
        (br_if $all (i32.ge_u (local.get $at) (local.get $end)))
        (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 10))
          (then
            (if (i32.eqz (call $act_as (i32.load (call $place (global.get $first)))))
              (then (drop (call $continue (i32.const 0)))))
            (global.set $first (i32.add (global.get $first) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $bytes)))
    i32.const 0)
  (func (export "proxy_on_done") (param i32) (result i32) i32.const 1))
