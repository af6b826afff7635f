//! Target `host_pairs`: pairs that a module passes to its host are decoded or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_host::fuzzing::decode_pairs(input));
