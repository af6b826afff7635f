//! Names and kinds of the parameters of host functions, and of the arguments of callbacks.

use super::Value;

/// Parameter of a host function, or several that belong together.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parameter {
    Number(&'static str),
    /// 64-bit number.
    Long(&'static str),
    /// Number that stands for a name.
    Word(&'static str, &'static [&'static str]),
    /// Pointer and length of bytes.
    Bytes(&'static str),
    /// Pointer and length of encoded pairs.
    Pairs(&'static str),
    /// Place of a pointer and place of a length, which the host writes.
    OutBytes(&'static str),
    OutPairs(&'static str),
    /// Place of a number, which the host writes.
    OutNumber(&'static str),
    OutLong(&'static str),
}

use Parameter::{Bytes, Long, Number, OutBytes, OutLong, OutNumber, OutPairs, Pairs, Word};

const MAPS: &[&str] = &[
    "HttpRequestHeaders",
    "HttpRequestTrailers",
    "HttpResponseHeaders",
    "HttpResponseTrailers",
    "GrpcReceiveInitialMetadata",
    "GrpcReceiveTrailingMetadata",
    "HttpCallResponseHeaders",
    "HttpCallResponseTrailers",
];
const BUFFERS: &[&str] = &[
    "HttpRequestBody",
    "HttpResponseBody",
    "DownstreamData",
    "UpstreamData",
    "HttpCallResponseBody",
    "GrpcReceiveBuffer",
    VM_CONFIGURATION,
    PLUGIN_CONFIGURATION,
    "CallData",
];
pub(super) const VM_CONFIGURATION: &str = "VmConfiguration";
pub(super) const PLUGIN_CONFIGURATION: &str = "PluginConfiguration";
const STREAMS: &[&str] = &["HttpRequest", "HttpResponse", "Downstream", "Upstream"];
const LEVELS: &[&str] = &["Trace", "Debug", "Info", "Warn", "Error", "Critical"];
const METRICS: &[&str] = &["Counter", "Gauge", "Histogram"];
const STATUSES: &[&str] = &[
    "Ok",
    "NotFound",
    "BadArgument",
    "SerializationFailure",
    "ParseFailure",
    "BadExpression",
    "InvalidMemoryAccess",
    "Empty",
    "CasMismatch",
    "ResultMismatch",
    "InternalFailure",
    "BrokenConnection",
    "Unimplemented",
];
const MAP: Parameter = Word("map", MAPS);
const BUFFER: Parameter = Word("buffer", BUFFERS);

/// Returns the name of a status.
pub(super) fn status(code: u32) -> &'static str {
    STATUSES.get(code as usize).copied().unwrap_or("Unknown")
}

/// Returns the name of a host function with its parameters; `None` for functions that are not reported.
pub(super) fn host_function(name: &str) -> Option<(&'static str, &'static [Parameter])> {
    FUNCTIONS.iter().find(|(known, _)| *known == name).copied()
}

#[rustfmt::skip]
const FUNCTIONS: &[(&str, &[Parameter])] = &[
    ("proxy_log", &[Word("level", LEVELS), Bytes("message")]),
    ("proxy_get_log_level", &[OutNumber("level")]),
    ("proxy_get_current_time_nanoseconds", &[OutLong("time")]),
    ("proxy_get_status", &[OutNumber("code"), OutBytes("message")]),
    ("proxy_set_effective_context", &[Number("context")]),
    ("proxy_done", &[]),
    ("proxy_call_foreign_function", &[Bytes("function"), Bytes("argument"), OutBytes("result")]),
    ("proxy_get_header_map_value", &[MAP, Bytes("key"), OutBytes("value")]),
    ("proxy_get_header_map_pairs", &[MAP, OutPairs("pairs")]),
    ("proxy_get_header_map_size", &[MAP, OutNumber("size")]),
    ("proxy_set_header_map_pairs", &[MAP, Pairs("pairs")]),
    ("proxy_add_header_map_value", &[MAP, Bytes("key"), Bytes("value")]),
    ("proxy_replace_header_map_value", &[MAP, Bytes("key"), Bytes("value")]),
    ("proxy_remove_header_map_value", &[MAP, Bytes("key")]),
    ("proxy_get_buffer_bytes", &[BUFFER, Number("start"), Number("max_size"), OutBytes("bytes")]),
    ("proxy_get_buffer_status", &[BUFFER, OutNumber("size"), OutNumber("flags")]),
    ("proxy_set_buffer_bytes", &[BUFFER, Number("start"), Number("size"), Bytes("bytes")]),
    ("proxy_send_local_response",
        &[Number("status"), Bytes("details"), Bytes("body"), Pairs("headers"), Number("grpc_status")]),
    ("proxy_get_property", &[Bytes("path"), OutBytes("value")]),
    ("proxy_set_property", &[Bytes("path"), Bytes("value")]),
    ("proxy_set_tick_period_milliseconds", &[Number("period_ms")]),
    ("proxy_http_call", &[Bytes("cluster"), Pairs("headers"), Bytes("body"), Pairs("trailers"), Number("timeout_ms"),
        OutNumber("token")]),
    ("proxy_grpc_call", &[Bytes("target"), Bytes("service"), Bytes("method"), Pairs("metadata"), Bytes("message"),
        Number("timeout_ms"), OutNumber("token")]),
    ("proxy_grpc_stream", &[Bytes("target"), Bytes("service"), Bytes("method"), Pairs("metadata"), OutNumber("token")]),
    ("proxy_grpc_send", &[Number("token"), Bytes("message"), Number("end_stream")]),
    ("proxy_grpc_cancel", &[Number("token")]),
    ("proxy_grpc_close", &[Number("token")]),
    ("proxy_get_shared_data", &[Bytes("key"), OutBytes("value"), OutNumber("cas")]),
    ("proxy_set_shared_data", &[Bytes("key"), Bytes("value"), Number("cas")]),
    ("proxy_register_shared_queue", &[Bytes("name"), OutNumber("queue")]),
    ("proxy_resolve_shared_queue", &[Bytes("vm_id"), Bytes("name"), OutNumber("queue")]),
    ("proxy_enqueue_shared_queue", &[Number("queue"), Bytes("item")]),
    ("proxy_dequeue_shared_queue", &[Number("queue"), OutBytes("item")]),
    ("proxy_define_metric", &[Word("kind", METRICS), Bytes("name"), OutNumber("metric")]),
    ("proxy_increment_metric", &[Number("metric"), Long("offset")]),
    ("proxy_record_metric", &[Number("metric"), Long("value")]),
    ("proxy_get_metric", &[Number("metric"), OutLong("value")]),
    ("proxy_continue_stream", &[Word("stream", STREAMS)]),
    ("proxy_close_stream", &[Word("stream", STREAMS)]),
    ("proxy_continue_request", &[]),
    ("proxy_continue_response", &[]),
    ("proxy_clear_route_cache", &[]),
    ("proxy_get_configuration", &[OutBytes("configuration")]),
    ("envoy_resolve_dns", &[Bytes("name"), OutNumber("token")]),
];

/// Returns the names of a callback's arguments.
pub(crate) fn arguments(callback: &str) -> &'static [&'static str] {
    match callback {
        "proxy_on_context_create" => &["context", "parent"],
        "proxy_on_vm_start" | "proxy_on_configure" => &["context", "size"],
        "proxy_on_request_headers" | "proxy_on_response_headers" => &["context", "headers", "end_of_stream"],
        "proxy_on_request_body" | "proxy_on_response_body" => &["context", "size", "end_of_stream"],
        "proxy_on_request_trailers" | "proxy_on_response_trailers" => &["context", "trailers"],
        "proxy_on_queue_ready" => &["context", "queue"],
        "proxy_on_http_call_response" => &["context", "token", "headers", "body_size", "trailers"],
        "proxy_on_grpc_receive_initial_metadata" | "proxy_on_grpc_receive_trailing_metadata" => {
            &["context", "token", "headers"]
        }
        "proxy_on_grpc_receive" => &["context", "token", "size"],
        "proxy_on_grpc_close" => &["context", "token", "status"],
        _ => &["context"],
    }
}

/// Returns a callback's result with its name.
pub(crate) fn result(callback: &str, value: u32) -> Value {
    const HEADERS: &[&str] = &[
        "Continue",
        "StopIteration",
        "ContinueAndEndStream",
        "StopAllIterationAndBuffer",
        "StopAllIterationAndWatermark",
    ];
    const BODY: &[&str] = &["Continue", "StopIterationAndBuffer", "StopIterationAndWatermark", "StopIterationNoBuffer"];
    let names = match callback {
        "proxy_on_request_headers" | "proxy_on_response_headers" => HEADERS,
        "proxy_on_request_body" | "proxy_on_response_body" => BODY,
        "proxy_on_request_trailers" | "proxy_on_response_trailers" => &["Continue", "StopIteration"],
        _ => &["false", "true"],
    };
    names.get(value as usize).map_or(Value::Number(value.into()), |name| Value::Word(name))
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Linker, Store};

    use super::*;
    use crate::abi::version::Abi;

    fn parameters(parameter: &Parameter) -> usize {
        match parameter {
            Bytes(_) | Pairs(_) | OutBytes(_) | OutPairs(_) => 2,
            Number(_) | Long(_) | Word(..) | OutNumber(_) | OutLong(_) => 1,
        }
    }

    #[test]
    fn every_host_function_has_a_signature_with_all_its_parameters() {
        let engine = Engine::default();
        for abi in [Abi::V0_1_0, Abi::V0_2_0, Abi::V0_2_1] {
            let mut linker = Linker::new(&engine);
            crate::abi::add_to_linker(&mut linker).unwrap();
            abi.add_to_linker(&mut linker).unwrap();
            let mut store = Store::new(&engine, crate::fuzzing::host_state(abi, 0));
            let functions: Vec<_> = linker
                .iter(&mut store)
                .filter(|(module, ..)| *module == "env")
                .map(|(_, name, it)| (name.to_owned(), it))
                .collect();
            for (name, function) in functions {
                if ["pthread_equal", "emscripten_notify_memory_growth"].contains(&name.as_str()) {
                    continue;
                }
                let (_, signature) = host_function(&name).unwrap_or_else(|| panic!("{name} has no signature"));
                let named: usize = signature.iter().map(parameters).sum();
                assert_eq!(named, function.into_func().unwrap().ty(&store).params().len(), "{name}");
            }
        }
    }
}
