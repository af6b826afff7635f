//! Target `host_calls`: any pointers, lengths and other arguments of a module lead to a status or a trap.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_host::fuzzing::call_host_functions(input));
