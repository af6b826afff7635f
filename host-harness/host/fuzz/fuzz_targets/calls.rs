//! Host functions: any pointers, lengths and other arguments of a module lead to a status or a trap.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| weir_host::fuzzing::call_host_functions(script));
