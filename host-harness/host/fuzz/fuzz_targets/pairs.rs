//! Pairs codec: any bytes are pairs or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| weir_host::fuzzing::decode_pairs(bytes));
