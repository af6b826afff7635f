//! Target `events`: see `weir_fuzz::events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::events::run(input));
