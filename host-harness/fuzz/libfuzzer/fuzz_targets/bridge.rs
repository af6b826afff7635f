//! Target `bridge`: see `weir_fuzz::bridge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::bridge::run(input));
