//! Target `callouts`: see `weir_fuzz::callouts`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::callouts::run(input));
