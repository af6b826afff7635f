//! Entry points for fuzzing: bytes that a hostile module could pass to its host. Each returns, whatever the bytes are.
//!
//! The crate's tests run both with random bytes, and with the inputs kept in `../fuzz/corpora`; the fuzz targets
//! `host_pairs` and `host_calls` run them with bytes that find new code.

use std::rc::{Rc, Weak};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use wasmtime::{Engine, Extern, Func, Instance, Linker, Module, Store, Val, ValType};

use crate::abi::in_flight::Budget;
use crate::abi::limits::{GuestLimits, Usage};
use crate::abi::pairs;
use crate::abi::shared::Shared;
use crate::abi::state::{CalloutResponse, Context, GrpcHandle, GrpcShown, HostState, HttpContext, RootContext};
use crate::abi::version::Abi;
use crate::bootstrap::{FailurePolicy, Plugin, VmConfig};
use crate::documents::Position;
use crate::http::{Direction, FilterView, Headers, LocalReply, Stream, StreamControl};

/// Guest with one page of memory, and allocators that each behave in another way.
const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (global $heap (mut i32) (i32.const 32768))
    (func $bump (export "allocate 0") (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $heap))
      (global.set $heap (i32.and (i32.add (local.get $at) (local.get $size)) (i32.const 0xffff)))
      (local.get $at))
    (func (export "allocate 1") (param i32) (result i32) (i32.const 0))
    (func (export "allocate 2") (param i32) (result i32) (i32.const -8))
    (func (export "allocate 3") (param i32) (result i32) (unreachable))
    (func (export "allocate 4") (param i32) (result i32)
      (drop (memory.grow (i32.const 1))) (call $bump (local.get 0))))"#;

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);

/// Decodes pairs; what can be decoded is encoded to the same headers again.
///
/// # Panics
/// If it is not.
#[expect(clippy::panic, reason = "the finding of a fuzzer")]
pub fn decode_pairs(bytes: &[u8]) {
    let Ok(headers) = pairs::decode(bytes) else { return };
    let entries: Vec<(&Bytes, &Bytes)> = headers.iter().collect();
    let encoded = pairs::encode(entries.iter().map(|(name, value)| (*name, *value)));
    if pairs::decode(&encoded).as_ref() != Ok(&headers) {
        panic!("{} pairs are not the same after encoding and decoding", headers.len());
    }
}

/// Calls host functions with arguments from a script. The script is the module's memory as well.
///
/// The first byte chooses the allocator, the second the ABI version and the context. Each call takes one byte for the
/// function and five for each argument.
///
/// # Panics
/// If a host function returns what is no status.
#[expect(clippy::panic, reason = "the finding of a fuzzer")]
pub fn call_host_functions(script: &[u8]) {
    let [allocator, kind, rest @ ..] = script else { return };
    let abi = [Abi::V0_2_1, Abi::V0_2_0, Abi::V0_1_0][usize::from(kind % 3)];
    let Ok((mut store, functions)) = guest(*allocator % 5, abi, u32::from(kind / 3 % 3), script) else {
        panic!("the guest does not start");
    };
    let mut bytes = rest.iter().copied();
    // A call copies at most the module's memory: 200 calls end soon.
    for _ in 0..200 {
        let Some(chosen) = bytes.next() else { return };
        let Some(function) = functions.get(usize::from(chosen) % functions.len()) else { return };
        let parameters: Vec<Val> = function.ty(&store).params().map(|kind| argument(&kind, &mut bytes)).collect();
        let mut results = vec![Val::I32(0); function.ty(&store).results().len()];
        if function.call(&mut store, &parameters, &mut results).is_err() {
            // A trap ends a VM.
            return;
        }
        if !results.iter().all(|result| matches!(result, Val::I32(0..=76))) {
            panic!("a host function returned {results:?}");
        }
        store.data_mut().effects.clear();
    }
}

/// Takes an argument: a small number, a place in memory, a place near its end, or any number.
fn argument(kind: &ValType, bytes: &mut impl Iterator<Item = u8>) -> Val {
    let choice = bytes.next().unwrap_or(0);
    let mut next = || i64::from(bytes.next().unwrap_or(0));
    let any = next() | next() << 8 | next() << 16 | next() << 24;
    let number = match choice % 5 {
        0 => any & 0xf,
        1 => any & 0xff,
        2 => any & 0xffff,
        3 => 0xfff0 + (any & 0x1f),
        _ => any,
    };
    match kind {
        ValType::I64 => Val::I64(if choice & 0x80 == 0 { number } else { -number }),
        _ => Val::I32(number as u32 as i32),
    }
}

/// Starts the guest with a memory; `context` acts: 0 the VM, 1 the root context, 2 a stream.
fn guest(allocator: u8, abi: Abi, context: u32, memory: &[u8]) -> wasmtime::Result<(Store<HostState>, Vec<Func>)> {
    static MODULE: LazyLock<Option<Module>> = LazyLock::new(|| Module::new(&ENGINE, wat::parse_str(GUEST).ok()?).ok());
    let module = MODULE.as_ref().ok_or_else(|| wasmtime::format_err!("the guest does not compile"))?;
    let mut linker = Linker::new(&ENGINE);
    crate::abi::add_to_linker(&mut linker)?;
    abi.add_to_linker(&mut linker)?;
    let mut store = Store::new(&ENGINE, host_state(abi, context));
    store.limiter(|state| &mut state.usage);
    let instance = Instance::new(&mut store, module, &[])?;
    let exported = instance.get_memory(&mut store, "memory");
    if let Some(exported) = exported {
        let length = memory.len().min(exported.data_size(&store));
        exported.write(&mut store, 0, memory.get(..length).unwrap_or_default())?;
    }
    store.data_mut().memory = exported;
    let allocate = instance.get_typed_func(&mut store, &format!("allocate {allocator}"))?;
    store.data_mut().allocate = Some(allocate);
    let mut functions: Vec<(String, Func)> = linker
        .iter(&mut store)
        .filter(|(module, _, _)| *module != "wasi_unstable")
        .filter_map(|(_, name, function)| Some((name.to_owned(), Extern::into_func(function)?)))
        .collect();
    // A linker has no order, and a script has to mean the same in each run.
    functions.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((store, functions.into_iter().map(|(_, function)| function).collect()))
}

pub(crate) fn host_state(abi: Abi, context: u32) -> HostState {
    let limits = GuestLimits { callback: Duration::from_secs(10), memory: 1 << 20 };
    let (root, http) = contexts();
    HostState {
        vm_id: "vm".to_owned(),
        vm_configuration: b"configuration".to_vec(),
        environment: vec![("name".to_owned(), "value".to_owned())],
        shared: Arc::new(Shared::new(limits.memory, Default::default())),
        metrics: Default::default(),
        usage: Usage::new(limits),
        in_flight: Budget::new(limits.memory),
        clusters: Rc::new(["a".to_owned(), String::new()].into_iter().collect()),
        inbox: None,
        contexts: [(1, Context::Root(Box::new(root))), (2, Context::Http(http))].into_iter().collect(),
        current: context,
        effective: 0,
        effects: Vec::new(),
        stopped: false,
        just_answered: false,
        memory: None,
        allocate: None,
        monotonic_zero: std::time::Instant::now(),
        log: Some(Vec::new()),
        abi,
        initializing: false,
        called_too_early: false,
        tokens: Default::default(),
    }
}

/// Returns a root context with a response and streams, and a stream whose maps and bodies are all open.
fn contexts() -> (RootContext, HttpContext) {
    let headers: Headers = [(":method", "GET"), (":path", "/a?b"), ("x-a", "b")].into_iter().collect();
    let vm = VmConfig {
        vm_id: "vm".to_owned(),
        module: "guest.wasm".into(),
        configuration: Vec::new(),
        host_environment: Vec::new(),
        environment: Vec::new(),
    };
    let plugin = Plugin {
        path: "plugin".to_owned(),
        position: Position::START,
        module_position: Position::START,
        name: "name".to_owned(),
        root_id: "root".to_owned(),
        vm,
        configuration: b"configuration".to_vec(),
        failure_policy: FailurePolicy::FailClosed,
        reload_interval: Duration::from_secs(1),
        sees_body_past_headers: false,
    };
    let response = CalloutResponse {
        headers: headers.clone(),
        body: Bytes::from_static(b"response"),
        trailers: Some(headers.clone()),
    };
    let root = RootContext {
        plugin: Arc::new(plugin),
        node: Arc::default(),
        configuring: true,
        ending: true,
        declared: Default::default(),
        response: Some(response),
        grpc: GrpcShown { initial: Some(headers.clone()), trailing: None, message: Bytes::from_static(b"message") },
        status: (2, "status".to_owned()),
        calls: [4].into_iter().collect(),
        streams: [(5, GrpcHandle { unary: true, ..GrpcHandle::default() }), (6, GrpcHandle::default())].into(),
    };
    let stream = Stream::default();
    stream.request_headers.replace(headers.clone());
    stream.response_headers.replace(Some(headers));
    stream.views.replace(vec![FilterView {
        request_headers: true,
        response_headers: true,
        body_open: [true; 2],
        body_ends: [true; 2],
        bodies: [b"request"[..].into(), b"response"[..].into()],
        ..FilterView::default()
    }]);
    let control: Weak<dyn StreamControl> = Weak::<NoStream>::new();
    let http = HttpContext { root: 1, stream: Rc::new(stream), filter: 0, control, declared: Default::default() };
    (root, http)
}

struct NoStream;

impl StreamControl for NoStream {
    fn resume(&self, _filter: usize, _direction: Direction) {}
    fn local_reply(&self, _filter: usize, _reply: LocalReply) {}
    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Pairs with lengths that are right, or wrong by a little.
    fn nearly_pairs() -> impl Strategy<Value = Vec<u8>> {
        let text = || vec(any::<u8>(), 0..20);
        (vec((text(), text(), -1..=1i32), 0..6), -1..=1i32, any::<bool>()).prop_map(|(entries, off, cut)| {
            let number = |number: usize, off: i32| (number as i32).wrapping_add(off).to_le_bytes();
            let mut bytes = number(entries.len(), off).to_vec();
            for (name, value, off) in &entries {
                bytes.extend(number(name.len(), *off));
                bytes.extend(number(value.len(), 0));
            }
            for text in entries.iter().flat_map(|(name, value, _)| [name, value]) {
                bytes.extend(text);
                bytes.push(0);
            }
            bytes.truncate(bytes.len() - usize::from(cut && !bytes.is_empty()));
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn any_bytes_are_pairs_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            decode_pairs(&bytes);
        }

        #[test]
        fn bytes_that_are_nearly_pairs_are_pairs_or_refused(bytes in nearly_pairs()) {
            decode_pairs(&bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_call_of_a_module_returns_a_status_or_a_trap(script in vec(any::<u8>(), 0..3000)) {
            call_host_functions(&script);
        }
    }

    /// Runs a target on its kept inputs.
    fn replay(name: &str, run: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpora").join(name);
        let inputs = std::fs::read_dir(&folder).unwrap().map(|input| std::fs::read(input.unwrap().path()).unwrap());
        assert!(inputs.map(|input| run(&input)).count() > 0, "no input of {name} is kept");
    }

    #[test]
    fn kept_inputs_are_pairs_or_refused() {
        replay("host_pairs", decode_pairs);
    }

    #[test]
    fn kept_scripts_of_calls_return_a_status_or_a_trap() {
        replay("host_calls", call_host_functions);
    }

    #[test]
    fn a_script_reaches_the_host_functions() {
        let (_, functions) = guest(0, Abi::V0_2_1, 2, &[]).unwrap();
        assert!(functions.len() > 80, "{}", functions.len());
    }
}
