//! Wrappers of host functions that report each call.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::{Caller, Extern, Linker, Module, Store, Val};

use super::signature::{PLUGIN_CONFIGURATION, Parameter, VM_CONFIGURATION, host_function, status};
use super::{Argument, Event, Tracer, Value, What};
use crate::abi::pairs;
use crate::abi::state::HostState;

/// Replaces the host functions that `module` imports by wrappers that call them and report the calls.
pub(crate) fn wrap(
    linker: &mut Linker<HostState>,
    store: &mut Store<HostState>,
    module: &Module,
    vm: u64,
    tracer: &Arc<dyn Tracer>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for import in module.imports().filter(|import| import.module() == "env") {
        let Some((name, parameters)) = host_function(import.name()) else { continue };
        let Ok(Extern::Func(original)) = linker.get(&mut *store, "env", name) else { continue };
        let tracer = tracer.clone();
        linker.func_new("env", name, original.ty(&*store), move |mut caller, given, returned| {
            if caller.data().memory.is_none() {
                // A start function runs: the original cannot find the caller's memory through this wrapper.
                caller.data_mut().memory = caller.get_export("memory").and_then(Extern::into_memory);
            }
            let arguments = read(&mut caller, parameters, given, false);
            let at = Instant::now();
            let called = original.call(&mut caller, given, returned);
            let took = at.elapsed();
            let code = match (&called, returned.first()) {
                (Ok(()), Some(Val::I32(code))) => code.cast_unsigned(),
                _ => u32::MAX,
            };
            let results = if code == 0 { read(&mut caller, parameters, given, true) } else { Vec::new() };
            let status = if called.is_err() { "trap" } else { status(code) };
            tracer.record(Event { at, what: What::Call { name, vm, arguments, results, status, took } });
            called
        })?;
    }
    Ok(())
}

/// Reads the arguments of a call, or with `out` its results.
fn read(caller: &mut Caller<'_, HostState>, parameters: &[Parameter], given: &[Val], out: bool) -> Vec<Argument> {
    let Some(memory) = caller.data().memory else { return Vec::new() };
    let bytes = memory.data(&*caller);
    let mut values = given.iter();
    let mut found = Vec::new();
    let mut configuration = false;
    for parameter in parameters {
        let mut next = || match values.next() {
            Some(Val::I32(value)) => i64::from(*value),
            Some(Val::I64(value)) => *value,
            _ => 0,
        };
        let first = next();
        let place = first as u32;
        let (argument, is_out) = match *parameter {
            Parameter::Number(name) | Parameter::Long(name) => ((name, Value::Number(first)), false),
            Parameter::Word(name, words) => {
                let word = usize::try_from(first).ok().and_then(|index| words.get(index));
                configuration |= word.is_some_and(|it| [VM_CONFIGURATION, PLUGIN_CONFIGURATION].contains(it));
                ((name, word.map_or(Value::Number(first), |word| Value::Word(word))), false)
            }
            Parameter::Bytes(name) => ((name, text(bytes, place, next() as u32)), false),
            Parameter::Pairs(name) => ((name, decoded(text(bytes, place, next() as u32))), false),
            Parameter::OutBytes(name) => {
                let value = written(bytes, place, next() as u32, out);
                let value = match value {
                    Value::Bytes(bytes) if configuration || name == "configuration" => {
                        Value::Configuration(bytes.len())
                    }
                    other => other,
                };
                ((name, value), true)
            }
            Parameter::OutPairs(name) => ((name, decoded(written(bytes, place, next() as u32, out))), true),
            Parameter::OutNumber(name) => ((name, number(bytes, place, 4)), true),
            Parameter::OutLong(name) => ((name, number(bytes, place, 8)), true),
        };
        if is_out == out {
            found.push(argument);
        }
    }
    found
}

fn text(memory: &[u8], pointer: u32, length: u32) -> Value {
    let start = pointer as usize;
    memory
        .get(start..start.saturating_add(length as usize))
        .map_or(Value::Unreadable, |bytes| Value::Bytes(bytes.to_vec()))
}

/// Reads the bytes whose pointer and length the host has written.
fn written(memory: &[u8], pointer_at: u32, length_at: u32, out: bool) -> Value {
    match (out, number(memory, pointer_at, 4), number(memory, length_at, 4)) {
        (true, Value::Number(pointer), Value::Number(length)) => text(memory, pointer as u32, length as u32),
        _ => Value::Unreadable,
    }
}

fn number(memory: &[u8], place: u32, size: usize) -> Value {
    let start = place as usize;
    let mut number = [0; 8];
    match (memory.get(start..start.saturating_add(size)), number.get_mut(..size)) {
        (Some(bytes), Some(target)) => {
            target.copy_from_slice(bytes);
            Value::Number(i64::from_le_bytes(number))
        }
        _ => Value::Unreadable,
    }
}

fn decoded(value: Value) -> Value {
    let Value::Bytes(bytes) = value else { return value };
    match pairs::decode(&bytes) {
        Ok(headers) => Value::Pairs(headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()),
        Err(_) => Value::Bytes(bytes),
    }
}
