//! Order of filters: limits that read what filters behind Weir write.

use crate::support::{Checked, changed, check, place_of};
use crate::{BY_USER, QUICKSTART};

const NAME: &str = "          - name: weir\n";
const ROUTER: &str = "          - name: envoy.filters.http.router\n";

fn filter(name: &str, message: &str) -> String {
    format!(
        "          - {{name: {name}, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.{message}}}}}\n"
    )
}

fn jwt(provider: &str) -> String {
    let message = "jwt_authn.v3.JwtAuthentication, providers: {users: {PROVIDER}}";
    filter("jwt", &message.replace("PROVIDER", provider))
}

/// The quickstart with an entry of a descriptor, and filters before and behind Weir.
fn text(entry: &str, before: &str, behind: &str) -> String {
    let entry = format!("- {entry}");
    changed(QUICKSTART, [(BY_USER, &entry), (NAME, &format!("{before}{NAME}")), (ROUTER, &format!("{behind}{ROUTER}"))])
}

fn metadata(namespace: &str) -> String {
    format!("dynamic_metadata: {{metadata_key: {{key: {namespace}, path: [{{key: claims}}, {{key: sub}}]}}}}")
}

/// Returns the finding of a warning about the order. The filters of these tests have only the fields that matter to the order,
/// and may lack required ones.
fn is_order(checked: &Checked) -> Option<String> {
    let found: Vec<_> = checked.findings.iter().filter(|finding| finding.rule != "required").collect();
    match *found.as_slice() {
        [] => None,
        [finding] if finding.rule == "order" && finding.severity == "warning" => Some(finding.found.clone()),
        _ => panic!("{checked:?}"),
    }
}

#[test]
fn claims_are_written_before_weir_reads_them() {
    let jwt = jwt("payload_in_metadata: claims");
    let read = metadata("envoy.filters.http.jwt_authn");
    let behind = text(&read, "", &jwt);
    let checked = check(&behind);
    assert_eq!(is_order(&checked).as_deref(), Some("the filter \"jwt\" behind it"));
    assert_eq!(checked.about("order").place, place_of(&behind, "envoy.filters.http.jwt_authn, path"));
    assert_eq!(is_order(&check(&text(&read, &jwt, ""))), None);
    assert_eq!(is_order(&check(&text(&read, &jwt, &jwt))), None);
    let none = Some("none in this chain".to_owned());
    assert_eq!(is_order(&check(&text(&read, "", ""))), none);
    assert_eq!(is_order(&check(&text(&read, &self::jwt("issuer: x"), ""))), none, "metadata has to be asked for");
    assert_eq!(is_order(&check(&text(&read, &self::jwt("payload_in_metadata: jwt"), ""))), none, "below another key");
    // A filter from elsewhere may write anything.
    let unknown = "          - {name: x, config_discovery: {config_source: {ads: {}}, type_urls: [a]}}\n";
    let identity = |text: String| format!("node: {{id: a, cluster: b}}\n{text}");
    assert_eq!(is_order(&check(&identity(text(&read, unknown, "")))), None);
}

#[test]
fn a_disabled_filter_writes_nothing_unless_a_route_enables_it() {
    let disabled = jwt("payload_in_metadata: claims").replace("{name: jwt,", "{name: jwt, disabled: true,");
    let read = metadata("envoy.filters.http.jwt_authn");
    let before = text(&read, &disabled, "");
    assert_eq!(is_order(&check(&before)).as_deref(), Some("none in this chain"));
    assert_eq!(is_order(&check(&text(&read, "", &disabled))).as_deref(), Some("none in this chain"));
    let route = "- match: {prefix: \"/\"}\n";
    let with = |fields: &str| {
        let config = format!("{{\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, {fields}}}");
        changed(&before, [(route, &format!("{route}                typed_per_filter_config: {{jwt: {config}}}\n"))])
    };
    assert_eq!(is_order(&check(&with("config: {}"))), None);
    assert_eq!(is_order(&check(&with("disabled: true"))).as_deref(), Some("none in this chain"));
    let remote = format!(
        "node: {{id: a, cluster: b}}\ndynamic_resources: {{lds_config: {{ads: {{}}}}, \
         ads_config: {{api_type: GRPC}}}}\n{before}"
    );
    assert_eq!(is_order(&check(&remote)), None, "a route from elsewhere may enable it");
}

#[test]
fn every_filter_that_writes_metadata_is_known_by_its_namespace() {
    for (namespace, message) in [
        ("envoy.filters.http.ext_authz", "ext_authz.v3.ExtAuthz"),
        ("envoy.filters.http.ext_proc", "ext_proc.v3.ExternalProcessor"),
        ("envoy.filters.http.rbac", "rbac.v3.RBAC"),
        ("envoy.filters.http.lua", "lua.v3.Lua"),
        ("mine", "set_metadata.v3.Config, metadata: [{metadata_namespace: mine}]"),
        ("mine", "set_metadata.v3.Config, metadataNamespace: mine"),
        (
            "mine",
            "header_to_metadata.v3.Config, request_rules: [{header: a, on_header_present: {metadata_namespace: mine}}]",
        ),
        ("envoy.filters.http.header_to_metadata", "header_to_metadata.v3.Config"),
        (
            "mine",
            "json_to_metadata.v3.JsonToMetadata, request_rules: {rules: [{on_present: {metadata_namespace: mine}}]}",
        ),
    ] {
        let (read, writer) = (metadata(namespace), filter("writer", message));
        let found = is_order(&check(&text(&read, "", &writer)));
        assert_eq!(found.as_deref(), Some("the filter \"writer\" behind it"), "{message}");
        assert_eq!(is_order(&check(&text(&read, &writer, ""))), None, "{message}");
    }
    let read = metadata("mine");
    assert_eq!(is_order(&check(&text(&read, "", ""))), None, "anyone may write a namespace that is no filter's own");
    let lua = filter("lua", "lua.v3.Lua");
    let jwt = jwt("payload_in_metadata: claims");
    let checked = check(&text(&metadata("envoy.filters.http.jwt_authn"), &lua, &jwt));
    assert!(is_order(&checked).is_some(), "a script before Weir hardly writes what jwt_authn behind it does");
    assert_eq!(is_order(&check(&text(&metadata("envoy.filters.http.jwt_authn"), &lua, ""))), None);
}

#[test]
fn filter_state_and_headers_are_written_before_weir_reads_them() {
    let state = "set_filter_state.v3.Config, on_request_headers: [{object_key: plan, factory_key: envoy.string}]";
    let geoip = "geoip.v3.Geoip, provider: {name: a, typed_config: {\"@type\": \
                 type.googleapis.com/envoy.extensions.geoip_providers.maxmind.v3.MaxMindConfig, \
                 common_provider_config: {geo_headers_to_add: {country: X-Country}}}}";
    let claims =
        "jwt_authn.v3.JwtAuthentication, providers: {p: {claim_to_headers: [{header_name: x-country, claim_name: c}]}}";
    for (read, message) in [
        ("filter_state: {key: plan}", state),
        ("request_header: {name: x-country}", geoip),
        ("request_header: {name: x-country}", claims),
    ] {
        let writer = filter("writer", message);
        let found = is_order(&check(&text(read, "", &writer)));
        assert_eq!(found.as_deref(), Some("the filter \"writer\" behind it"), "{message}");
        assert_eq!(is_order(&check(&text(read, &writer, ""))), None, "{message}");
    }
    assert_eq!(is_order(&check(&text("filter_state: {key: other}", "", &filter("writer", state)))), None);
}

#[test]
fn a_wrapped_filter_counts_where_its_wrapper_stands() {
    let inner = "{\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz}";
    let wrapped = format!(
        "          - {{name: wrapper, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher, extension_config: {{name: a, \
         typed_config: {inner}}}}}}}\n"
    );
    let found = is_order(&check(&text(&metadata("envoy.filters.http.ext_authz"), "", &wrapped)));
    assert_eq!(found.as_deref(), Some("the filter \"wrapper\" behind it"));
}
