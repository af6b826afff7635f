//! Target `usage`: see `weir_fuzz::usage`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::usage::run(input));
