{{- define "weir.version" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Name with the version: a new version never runs under an old one. */}}
{{- define "weir.versioned" -}}
{{ printf "%s-%s" .Release.Name (include "weir.version" .) | replace "." "-" | replace "_" "-" | replace "+" "-" | lower | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "weir.module" -}}
{{ .Values.moduleConfigMap | default (printf "weir-%s" (include "weir.version" . | replace "." "-")) }}
{{- end }}

{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ include "weir.version" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "weir.url" -}}
{{ .Values.image.repository }}:{{ include "weir.version" . }}
{{- end }}

{{- /* Labels of the pods of the proxy, as JSON. */}}
{{- define "weir.proxyLabels" -}}
{{- if eq .Values.mode "envoy" -}}
{{ dict "app.kubernetes.io/name" "weir" "app.kubernetes.io/instance" .Release.Name | toJson }}
{{- else if eq .Values.mode "envoyGateway" -}}
{{ dict "gateway.envoyproxy.io/owning-gateway-name" .Values.envoyGateway.gateway "gateway.envoyproxy.io/owning-gateway-namespace" .Release.Namespace | toJson }}
{{- else if eq .Values.istio.proxy "sidecar" -}}
{{ toJson .Values.istio.labels }}
{{- else -}}
{{ dict "gateway.networking.k8s.io/gateway-name" .Values.istio.gateway | toJson }}
{{- end -}}
{{- end }}

{{- /* Whether Redis is behind an HTTP front end; empty if not. */}}
{{- define "weir.frontEnd" -}}
{{ ternary "" "yes" (eq .Values.redis.transport "stream") }}
{{- end }}

{{- /* Whether pods have the module as a file: for the bridge, or for a limiter that is no image; empty if not. */}}
{{- define "weir.hasFile" -}}
{{- $isImage := or (eq .Values.mode "istio") (and (eq .Values.mode "envoyGateway") (eq .Values.envoyGateway.form "extensionPolicy")) -}}
{{- if not (or (eq .Values.mode "istio") (and $isImage (include "weir.frontEnd" .))) -}}yes{{- end -}}
{{- end }}

{{- /* Variable that the filter reads; none if empty. The password of a Redis Cluster is that of redis_proxy. */}}
{{- define "weir.variable" -}}
{{- if eq .Values.redis.transport "upstash" -}}
UPSTASH_REDIS_REST_TOKEN
{{- else if and .Values.redis.passwordSecret.name (ne .Values.redis.topology "cluster") -}}
REDIS_PASSWORD
{{- end -}}
{{- end }}

{{- /* The filter's configuration, as JSON. */}}
{{- define "weir.filter" -}}
{{- $values := .Values.redis -}}
{{- $redis := dict "cluster" "weir-redis" -}}
{{- if include "weir.frontEnd" . -}}
{{- $node := first $values.nodes -}}
{{- $_ := set $redis "transport" $values.transport -}}
{{- if eq .Values.mode "istio" }}{{ $_ := set $redis "cluster" (printf "outbound|%d||%s" (int $node.port) $node.address) }}{{ end -}}
{{- if eq $values.transport "upstash" -}}
{{- $_ := set $redis "authority" $node.address -}}
{{- $_ := set $redis "token" (dict "env" (include "weir.variable" .)) -}}
{{- end -}}
{{- end -}}
{{- if eq $values.topology "cluster" -}}
{{- $_ := set $redis "topology" "cluster" -}}
{{- else -}}
{{- with $values.username }}{{ $_ := set $redis "username" . }}{{ end -}}
{{- if $values.passwordSecret.name }}{{ $_ := set $redis "password" (dict "env" (include "weir.variable" .)) }}{{ end -}}
{{- end -}}
{{- $timeouts := dict "webdis" "0.2s" "upstash" "0.5s" "cluster" "0.2s" -}}
{{- $timeout := get $timeouts (ternary "cluster" $values.transport (eq $values.topology "cluster")) -}}
{{- $redis = merge $redis (.Values.filter.redis | default dict) (ternary (dict "timeout" $timeout) dict (ne $timeout "")) -}}
{{- merge (dict "redis" $redis) (omit .Values.filter "redis") | toJson -}}
{{- end }}

{{- /* Endpoints of the nodes, as a list in JSON. */}}
{{- define "weir.endpoints" -}}
{{- $endpoints := list -}}
{{- range .Values.redis.nodes -}}
{{- $address := dict "socket_address" (dict "address" .address "port_value" (int .port)) -}}
{{- $endpoints = append $endpoints (dict "endpoint" (dict "address" $address)) -}}
{{- end -}}
{{- toJson $endpoints -}}
{{- end }}

{{- /* The cluster that the filter names, as JSON. The argument is a dictionary: root, and the bridge as an HTTP filter. */}}
{{- define "weir.cluster" -}}
{{- $values := .root.Values -}}
{{- $type := "type.googleapis.com/envoy.extensions" -}}
{{- $isCluster := eq $values.redis.topology "cluster" -}}
{{- $endpoints := include "weir.endpoints" .root | fromJsonArray -}}
{{- if $isCluster -}}
{{- $address := dict "envoy_internal_address" (dict "server_listener_name" "weir-redis-proxy" "endpoint_id" "weir-redis-proxy") -}}
{{- $endpoints = list (dict "endpoint" (dict "address" $address)) -}}
{{- end -}}
{{- $cluster := dict "name" "weir-redis" "type" (ternary "STATIC" "STRICT_DNS" $isCluster) "connect_timeout" "1s"
    "load_assignment" (dict "cluster_name" "weir-redis" "endpoints" (list (dict "lb_endpoints" $endpoints))) -}}
{{- if include "weir.frontEnd" .root -}}
{{- /* A callout that waits has a connection of its own: as many as redis.max_in_flight. */ -}}
{{- $most := int (dig "redis" "max_in_flight" 4096 $values.filter) -}}
{{- $_ := set $cluster "circuit_breakers" (dict "thresholds" (list
    (dict "max_connections" $most "max_pending_requests" $most "max_requests" $most))) -}}
{{- else -}}
{{- $codec := dict "name" "codec" "typed_config" (dict "@type" (printf "%s.filters.http.upstream_codec.v3.UpstreamCodec" $type)) -}}
{{- $options := dict "@type" (printf "%s.upstreams.http.v3.HttpProtocolOptions" $type)
    "explicit_http_config" (dict "http2_protocol_options" dict) "http_filters" (list .bridge $codec) -}}
{{- $_ := set $cluster "upstream_config" (dict "name" "envoy.upstreams.http.tcp"
    "typed_config" (dict "@type" (printf "%s.upstreams.http.tcp.v3.TcpConnectionPoolProto" $type))) -}}
{{- $_ := set $cluster "typed_extension_protocol_options" (dict "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" $options) -}}
{{- if and (gt (len $endpoints) 1) (not $isCluster) -}}
{{- /* ROLE, answered by a master. */ -}}
{{- $check := dict "timeout" "0.5s" "interval" "0.5s" "no_traffic_interval" "0.5s" "unhealthy_threshold" 1 "healthy_threshold" 1
    "tcp_health_check" (dict "send" (dict "text" "524f4c450d0a") "receive" (list (dict "text" "6d6173746572"))) -}}
{{- $_ := set $cluster "health_checks" (list $check) -}}
{{- $_ := set $cluster "common_lb_config" (dict "healthy_panic_threshold" (dict "value" 0)) -}}
{{- $_ := set $cluster "close_connections_on_host_health_failure" true -}}
{{- end -}}
{{- end -}}
{{- if not $isCluster -}}
{{- with include "weir.tls" .root }}{{ $_ := set $cluster "transport_socket" (fromJson .) }}{{ end -}}
{{- end -}}
{{- if eq $values.redis.transport "upstash" }}{{ $_ := set $cluster "type" "LOGICAL_DNS" }}{{ end -}}
{{- toJson $cluster -}}
{{- end }}

{{- /* TLS to Redis as JSON; empty without TLS. Upstash has a certificate of an authority that the image knows. */}}
{{- define "weir.tls" -}}
{{- $tls := .Values.redis.tls -}}
{{- $folder := "/etc/weir-redis-tls" -}}
{{- $name := $tls.serverName -}}
{{- $validation := dict -}}
{{- $common := dict -}}
{{- if eq .Values.redis.transport "upstash" -}}
{{- $name = (first .Values.redis.nodes).address -}}
{{- $validation = dict "trusted_ca" (dict "filename" "/etc/ssl/certs/ca-certificates.crt") -}}
{{- else if $tls.enabled -}}
{{- $validation = dict "trusted_ca" (dict "filename" (printf "%s/ca.crt" $folder)) "watched_directory" (dict "path" $folder) -}}
{{- if $tls.clientCertificate -}}
{{- $pair := dict "certificate_chain" (dict "filename" (printf "%s/tls.crt" $folder))
    "private_key" (dict "filename" (printf "%s/tls.key" $folder)) "watched_directory" (dict "path" $folder) -}}
{{- $_ := set $common "tls_certificates" (list $pair) -}}
{{- end -}}
{{- end -}}
{{- if $validation -}}
{{- $san := dict "san_type" "DNS" "matcher" (dict "exact" $name) -}}
{{- $_ := set $validation "match_typed_subject_alt_names" (list $san) -}}
{{- $_ := set $common "validation_context" $validation -}}
{{- $context := dict "@type" "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" "sni" $name
    "common_tls_context" $common -}}
{{- dict "name" "envoy.transport_sockets.tls" "typed_config" $context | toJson -}}
{{- end -}}
{{- end }}

{{- /* What a Redis Cluster needs, as JSON: `extension` of the bootstrap, `listener` of redis_proxy, `nodes`. Without fields for others. */}}
{{- define "weir.redisCluster" -}}
{{- if eq .Values.redis.topology "cluster" -}}
{{- $type := "type.googleapis.com/envoy.extensions" -}}
{{- $extension := dict "name" "envoy.bootstrap.internal_listener"
    "typed_config" (dict "@type" (printf "%s.bootstrap.internal_listener.v3.InternalListener" $type)) -}}
{{- $proxy := dict "@type" (printf "%s.filters.network.redis_proxy.v3.RedisProxy" $type) "stat_prefix" "weir-redis-proxy"
    "settings" (dict "op_timeout" .Values.redis.opTimeout "enable_redirection" true)
    "prefix_routes" (dict "catch_all_route" (dict "cluster" "weir-redis-nodes")) -}}
{{- $filter := dict "name" "envoy.filters.network.redis_proxy" "typed_config" $proxy -}}
{{- $listener := dict "name" "weir-redis-proxy" "internal_listener" dict
    "filter_chains" (list (dict "filters" (list $filter))) -}}
{{- $refresh := dict "cluster_refresh_rate" "1s" "cluster_refresh_timeout" "0.5s" "redirect_refresh_interval" "1s"
    "redirect_refresh_threshold" 1 "failure_refresh_threshold" 1 -}}
{{- $endpoints := include "weir.endpoints" . | fromJsonArray -}}
{{- $nodes := dict "name" "weir-redis-nodes" "connect_timeout" "0.25s" "lb_policy" "CLUSTER_PROVIDED"
    "wait_for_warm_on_init" false
    "cluster_type" (dict "name" "envoy.clusters.redis"
      "typed_config" (dict "@type" "type.googleapis.com/google.protobuf.Struct" "value" $refresh))
    "load_assignment" (dict "cluster_name" "weir-redis-nodes" "endpoints" (list (dict "lb_endpoints" $endpoints))) -}}
{{- if .Values.redis.passwordSecret.name -}}
{{- $login := dict "@type" (printf "%s.filters.network.redis_proxy.v3.RedisProtocolOptions" $type)
    "auth_password" (dict "environment_variable" "REDIS_PASSWORD") -}}
{{- with .Values.redis.username }}{{ $_ := set $login "auth_username" (dict "inline_string" .) }}{{ end -}}
{{- $_ := set $nodes "typed_extension_protocol_options" (dict "envoy.filters.network.redis_proxy" $login) -}}
{{- end -}}
{{- with include "weir.tls" . }}{{ $_ := set $nodes "transport_socket" (fromJson .) }}{{ end -}}
{{- dict "extension" $extension "listener" $listener "nodes" $nodes | toJson -}}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{- /* A plugin as `typed_config`, as JSON. The argument is a dictionary: root, id (of the root context), code, vm_id,
       configuration, bodies. */}}
{{- define "weir.plugin" -}}
{{- $machine := dict "runtime" "envoy.wasm.runtime.v8" "code" .code -}}
{{- with .vm_id }}{{ $_ := set $machine "vm_id" . }}{{ end -}}
{{- with include "weir.variable" .root -}}
{{- $_ := set $machine "environment_variables" (dict "host_env_keys" (list .)) -}}
{{- end -}}
{{- $config := dict "name" (printf "weir-%s" .id) "root_id" .id "vm_config" $machine "failure_policy" "FAIL_RELOAD" -}}
{{- with .configuration -}}
{{- $_ := set $config "configuration" (dict "@type" "type.googleapis.com/google.protobuf.Struct" "value" (fromJson .)) -}}
{{- end -}}
{{- if .bodies }}{{ $_ := set $config "allow_on_headers_stop_iteration" true }}{{ end -}}
{{- dict "@type" "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm" "config" $config | toJson -}}
{{- end }}

{{- /* Volumes, mounts and variables of the proxy's pod, as JSON. */}}
{{- define "weir.pod" -}}
{{- $volumes := list -}}
{{- $mounts := list -}}
{{- $env := list -}}
{{- if include "weir.hasFile" . -}}
{{- $volumes = append $volumes (dict "name" "weir" "configMap" (dict "name" (include "weir.module" .))) -}}
{{- $mounts = append $mounts (dict "name" "weir" "mountPath" "/etc/weir" "readOnly" true) -}}
{{- end -}}
{{- if .Values.redis.tls.enabled -}}
{{- $volumes = append $volumes (dict "name" "redis-tls" "secret" (dict "secretName" .Values.redis.tls.secretName)) -}}
{{- $mounts = append $mounts (dict "name" "redis-tls" "mountPath" "/etc/weir-redis-tls" "readOnly" true) -}}
{{- end -}}
{{- range $name, $secret := dict "REDIS_PASSWORD" .Values.redis.passwordSecret "UPSTASH_REDIS_REST_TOKEN" .Values.redis.tokenSecret -}}
{{- if $secret.name -}}
{{- $ref := dict "secretKeyRef" (dict "name" $secret.name "key" $secret.key) -}}
{{- $env = append $env (dict "name" $name "valueFrom" $ref) -}}
{{- end -}}
{{- end -}}
{{- dict "volumes" $volumes "mounts" $mounts "env" $env | toJson -}}
{{- end }}
