//! Requests and scripts that together touch every callback and every host function.

use super::hosts::Sent;

/// Calls that need no state of a stream, or find none: their statuses in each callback.
macro_rules! everywhere {
    () => {
        "get 0 :method; get 0 missing; get 1 x-last; get 2 :status; get 3 x-end; get 4 a; get 5 a; get 6 :status; \
         get 7 a; get 8 a; pairs 1; pairs 3; pairs 4; pairs 6; pairs 7; pairs 8; size 0; size 2; size 4; size 6; size 8; \
         add 2 x-added-early yes; add 4 a b; add 8 a b; set 6 a b; remove 5 a; remove 9 a; \
         buffer 0 0 10; buffer 1 0 10; buffer 2 0 10; buffer 3 0 10; buffer 4 0 10; buffer 5 0 10; buffer 6 0 10; \
         buffer 7 0 10; buffer 9 0 10; bufferstatus 0; bufferstatus 4; bufferstatus 7; bufferstatus 9; \
         setbuffer 4 0 0 x; setbuffer 6 0 0 x; setbuffer 7 0 0 x; setbuffer 9 0 0 x; \
         property request.path; property request.method; property request.host; property request.protocol; \
         property request.headers.x-own; property request.size; property response.code; property response.headers.x-told; \
         property response.trailers.x-end; property plugin_name; property plugin_root_id; property plugin_vm_id; \
         property xds.node.id; property xds.route_name; property xds.cluster_name; property xds.listener_direction; \
         property no.such; property connection.mtls; property filter_state.none; property metadata.none; \
         shared none; resolve nowhere none; enqueue none x; dequeue none; unknownmetric 4000; unknownmetric 4001; \
         unknownmetric 4002; context 12345; context 0; done; loglevel; time; status; grpcsend 4004 x 0; grpcsend 4006 x 0; \
         grpccancel 4005; grpccancel 4006; grpccancel 4008; grpcclose 4005; grpcclose 4006; grpcclose 4008; foreign none x; \
         call none :method=GET,:path=/,:authority=x x; call told :method=GET x; grpccall none m a=b x 100; \
         grpcstream none m a=b; log 9 never; log 3 warned; continue 2; continue 3; continue 4; close 2; close 3; close 4"
    };
}

const LAST: &[(&str, &str)] = &[("x-last", "yes")];

/// Request without a script.
pub(crate) const PLAIN: &[Sent] = &[("GET", "", &[], "")];

/// Requests with scripts of their own.
pub(crate) const EXCHANGES: &[Sent] = &[
    ("GET", "", &[], ""),
    ("POST", "", LAST, "body"),
    // Every call in every callback of a stream.
    ("POST", concat!("create: ", everywhere!()), LAST, "body"),
    ("POST", concat!("request_headers: ", everywhere!()), LAST, "body"),
    ("POST", concat!("request_body: ", everywhere!()), LAST, "body"),
    ("POST", concat!("request_trailers: ", everywhere!()), LAST, "body"),
    ("POST", concat!("response_headers: ", everywhere!()), LAST, "body"),
    ("POST", concat!("response_body: ", everywhere!()), LAST, "body"),
    ("POST", concat!("response_trailers: ", everywhere!()), LAST, "body"),
    ("POST", concat!("log: ", everywhere!()), LAST, "body"),
    ("POST", concat!("done: ", everywhere!()), LAST, "body"),
    ("POST", concat!("delete: ", everywhere!()), LAST, "body"),
    // Changes of headers, trailers and bodies.
    (
        "GET",
        "request_headers: add 0 x-a 1; add 0 x-a 2; set 0 x-a 3; set 0 X-B 4; get 0 x-b; remove 0 x-script; set 0 :path /other",
        &[],
        "",
    ),
    ("POST", "request_headers: setpairs 0 :method=POST,:path=/p,:authority=a.b,:scheme=http,x-c=d", &[], "body"),
    (
        "POST",
        "request_headers: remove 0 content-length | request_body: setbuffer 0 0 0 before-; buffer 0 0 100; setbuffer 0 100 0 -after; setbuffer 0 3 0 x; buffer 0 2 3",
        &[],
        "body",
    ),
    (
        "POST",
        "request_headers: remove 0 content-length | request_body: setbuffer 0 0 100 replaced; bufferstatus 0",
        LAST,
        "body",
    ),
    ("POST", "request_headers: remove 0 content-length | request_body: setbuffer 0 0 2 B", &[], "body"),
    ("POST", "request_trailers: add 1 x-more 1; set 1 x-last no; pairs 1; size 1", LAST, "body"),
    ("POST", "request_body: get 1 x; size 1; add 1 x-added yes; pairs 1", &[], "body"),
    (
        "GET",
        "response_headers: add 2 x-a 1; set 2 x-told no; remove 2 content-type; set 2 :status 201; pairs 2",
        &[],
        "",
    ),
    (
        "GET",
        "response_headers: remove 2 content-length | response_body: setbuffer 1 0 100000 short; bufferstatus 1",
        &[],
        "",
    ),
    ("GET", "response_trailers: add 3 x-more 1; remove 3 x-end; pairs 3; size 3", &[], ""),
    ("GET", "response_headers: setpairs 2 :status=202,x-only=this", &[], ""),
    // Results of callbacks.
    ("POST", "request_body: return 1", LAST, "body"),
    ("POST", "request_body: return 2", LAST, "body"),
    ("POST", "request_trailers: continue 0; return 1", LAST, "body"),
    ("POST", "response_body: return 1", &[], "body"),
    ("POST", "response_body: return 2", &[], "body"),
    ("POST", "response_trailers: continue 1; return 1", &[], "body"),
    // Local replies and resets.
    ("GET", "request_headers: reply 418 tea x-a=b,x-a=c -1 why_not; return 1", &[], ""),
    ("GET", "request_headers: reply 200 twice x-a=b -1 first; reply 201 again x-a=c -1 second", &[], ""),
    ("POST", "request_body: reply 403 no x-a=b 7 details_here", &[], "body"),
    ("POST", "request_trailers: reply 404 no", LAST, "body"),
    ("GET", "response_headers: reply 502 replaced x-a=b", &[], ""),
    ("GET", "response_body: reply 502 late", &[], ""),
    ("GET", "request_headers: close 0", &[], ""),
    ("GET", "response_headers: close 1", &[], ""),
    ("HEAD", "request_headers: reply 418 tea", &[], ""),
    // Properties, shared data, queues, metrics, foreign functions.
    (
        "GET",
        "request_headers: setproperty mine yours; property mine; setproperty a.b c; property a.b; property filter_state.wasm.mine | log: property mine; property response.code; property response.code_details; property response.flags",
        &[],
        "",
    ),
    (
        "GET",
        "request_headers: setshared key one 0; shared key; setshared key two 77777; shared key; setshared key three 0; shared key; setshared empty; shared empty",
        &[],
        "",
    ),
    (
        "GET",
        "request_headers: register queue; resolve script queue; resolve other queue; enqueue queue a; enqueue queue b; dequeue queue; dequeue queue; dequeue queue",
        &[],
        "",
    ),
    (
        "GET",
        "request_headers: metric 0 c 3; metric 0 c 3; metric 0 c -3; metric 1 g 3; metric 1 g -2; metric 2 h 3; metric 3 x 1",
        &[],
        "",
    ),
    (
        "GET",
        "request_headers: foreign clear_route_cache; foreign declare_property %0A%01a%10%01; foreign declare_property %0A%01a%10%01; setproperty a b; setproperty a c; property a; foreign declare_property %FF; foreign set_envoy_filter_state %0A%0Cenvoy.string%12%01v; property filter_state.envoy.string; foreign set_envoy_filter_state %0A%04none%12%01v; foreign uncompress x",
        &[],
        "",
    ),
    // Properties that few filters read, the flags of a local reply, and a compressed text.
    (
        "GET",
        "request_headers: property request.url_path; property request.query; property request.scheme; property request.referer; property request.useragent; property request.time.x; property source; property destination; property connection.requested_server_name; property connection.termination_details; property connection.tls_version; property connection.subject_peer_certificate; property connection.transport_failure_reason; property xds.filter_chain_name; property xds.virtual_host_name; property xds.upstream_host_locality; property upstream.transport_failure_reason; property upstream.tls_version; property upstream.subject_peer_certificate; property upstream.request_attempt_count; property xds.node.cluster; property xds.node.metadata.zone | log: property upstream.request_attempt_count; property response.flags; property response.grpc_status; property upstream.transport_failure_reason; property connection.termination_details",
        &[],
        "",
    ),
    (
        "GET",
        "request_headers: reply 429 no x-a=b -1 over; return 1 | log: property response.flags; property response.code_details",
        &[],
        "",
    ),
    (
        "GET",
        "request_headers: foreign uncompress %78%9C%CB%48%CD%C9%C9%57%C8%40%90%00%3A%2E%06%7D; foreign uncompress %78%9C",
        &[],
        "",
    ),
];

/// Scripts whose outcome changed between Envoy 1.36 and 1.40; the harness follows 1.40.
pub(crate) const CHANGED_SINCE_1_36: &[&str] = &["response_body: reply 502 late"];

/// Configurations whose scripts run in the callbacks of the root context, with the requests that cause the callbacks.
///
/// `settled` is logged by the last of them.
pub(crate) const ROOT_SCRIPTS: &[(&str, &[Sent])] = &[
    (concat!("vm_start: ", everywhere!()), PLAIN),
    (concat!("create_root: ", everywhere!()), PLAIN),
    (concat!("configure: ", everywhere!()), PLAIN),
    (
        concat!("tick: tick 0; ", everywhere!(), "; context last; continue 0; log 2 settled"),
        &[("GET", "request_headers: tick 10; return 1", &[], "")],
    ),
    (
        concat!("queue_ready: dequeue q; ", everywhere!(), "; context last; continue 0; log 2 settled"),
        &[("GET", "request_headers: register q; enqueue q x; return 1", &[], "")],
    ),
    (
        concat!(
            "call_response: pairs 6; buffer 4 0 1000; pairs 7; ",
            everywhere!(),
            "; context last; get 0 :method; context last; continue 0; log 2 settled"
        ),
        &[(
            "GET",
            "request_headers: call told :method=POST,:path=/c,:authority=x,x-c=d body x-t=u 1000; return 1",
            &[],
            "",
        )],
    ),
    (
        "call_response: pairs 6; buffer 4 0 1000; status; context last; continue 0; log 2 settled",
        &[("GET", "request_headers: call nobody :method=GET,:path=/c,:authority=x; return 1", &[], "")],
    ),
    (
        concat!("grpc_receive: buffer 5 0 100; status; ", everywhere!(), "; context last; continue 0; log 2 settled"),
        &[("GET", "request_headers: grpccall told m x-a=b hello 1000; return 1", &[], "")],
    ),
    (
        concat!("grpc_close: status; buffer 5 0 100; ", everywhere!(), "; context last; continue 0; log 2 settled"),
        &[("GET", "request_headers: grpccall nobody m x-a=b hello 1000; return 1", &[], "")],
    ),
    (
        concat!(
            "grpc_initial: pairs 4; ",
            everywhere!(),
            " | grpc_receive: buffer 5 0 100; ",
            everywhere!(),
            " | grpc_trailing: pairs 5; ",
            everywhere!(),
            " | grpc_close: status; context last; continue 0; log 2 settled"
        ),
        &[(
            "GET",
            "request_headers: grpcstream told m x-a=b; grpcsend 6 hello 0; grpcsend 6 again 0; grpcclose 6; return 1",
            &[],
            "",
        )],
    ),
    (
        "grpc_close: status; context last; continue 0; log 2 settled",
        &[("GET", "request_headers: grpcstream nobody m x-a=b; grpcsend 6 hello 1; return 1", &[], "")],
    ),
    (
        "tick: tick 0; context last; continue 0; log 2 settled",
        &[(
            "GET",
            "request_headers: grpcstream told m; grpccancel 6; grpcsend 6 x 0; grpccall told m a=b x 100; grpccancel 5; grpccancel 5; tick 10; return 1",
            &[],
            "",
        )],
    ),
    (
        "tick: tick 0; call told :method=GET,:path=/later,:authority=x; log 2 ticked | call_response: context last; continue 0; log 2 settled",
        &[("GET", "request_headers: tick 10; return 1", &[], "")],
    ),
    (
        "tick: tick 0; context last; reply 429 held; log 2 settled",
        &[("GET", "request_headers: tick 10; return 1", &[], "")],
    ),
    ("tick: tick 0; context last; close 0; log 2 settled", &[("GET", "request_headers: tick 10; return 1", &[], "")]),
];
