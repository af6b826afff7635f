//! Target `descriptors`: see `weir_fuzz::descriptors`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::descriptors::run(input));
