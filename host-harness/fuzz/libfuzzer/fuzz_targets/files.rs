//! Target `files`: see `weir_fuzz::files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::files::run(input));
