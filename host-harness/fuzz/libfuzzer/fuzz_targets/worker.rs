//! Target `worker`: see `weir_fuzz::worker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::worker::run(input));
