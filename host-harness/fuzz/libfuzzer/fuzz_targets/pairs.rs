//! Target `pairs`: see `weir_fuzz::pairs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::pairs::run(input));
