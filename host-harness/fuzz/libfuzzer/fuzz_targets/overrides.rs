//! Target `overrides`: see `weir_fuzz::overrides`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::overrides::run(input));
