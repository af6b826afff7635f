//! Target `configuration`: see `weir_fuzz::configuration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::configuration::run(input));
