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

{{- /* The filter's configuration, as JSON. */}}
{{- define "weir.filter" -}}
{{- $redis := dict "cluster" "weir-redis" -}}
{{- with .Values.redis.username }}{{ $_ := set $redis "username" . }}{{ end -}}
{{- if .Values.redis.passwordSecret.name }}{{ $_ := set $redis "password" (dict "env" "REDIS_PASSWORD") }}{{ end -}}
{{- $redis = merge $redis (.Values.filter.redis | default dict) -}}
{{- merge (dict "redis" $redis) (omit .Values.filter "redis") | toJson -}}
{{- end }}

{{- /* The cluster of Redis, as JSON. The argument is a dictionary: root, and the bridge as an HTTP filter. */}}
{{- define "weir.cluster" -}}
{{- $values := .root.Values -}}
{{- $endpoints := list -}}
{{- range $values.redis.nodes -}}
{{- $address := dict "socket_address" (dict "address" .address "port_value" (int .port)) -}}
{{- $endpoints = append $endpoints (dict "endpoint" (dict "address" $address)) -}}
{{- end -}}
{{- $type := "type.googleapis.com/envoy.extensions" -}}
{{- $codec := dict "name" "codec" "typed_config" (dict "@type" (printf "%s.filters.http.upstream_codec.v3.UpstreamCodec" $type)) -}}
{{- $options := dict "@type" (printf "%s.upstreams.http.v3.HttpProtocolOptions" $type)
    "explicit_http_config" (dict "http2_protocol_options" dict) "http_filters" (list .bridge $codec) -}}
{{- $cluster := dict "name" "weir-redis" "type" "STRICT_DNS" "connect_timeout" "1s"
    "load_assignment" (dict "cluster_name" "weir-redis" "endpoints" (list (dict "lb_endpoints" $endpoints)))
    "upstream_config" (dict "name" "envoy.upstreams.http.tcp"
      "typed_config" (dict "@type" (printf "%s.upstreams.http.tcp.v3.TcpConnectionPoolProto" $type)))
    "typed_extension_protocol_options" (dict "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" $options) -}}
{{- if gt (len $values.redis.nodes) 1 -}}
{{- /* ROLE, answered by a master. */ -}}
{{- $check := dict "timeout" "0.5s" "interval" "0.5s" "no_traffic_interval" "0.5s" "unhealthy_threshold" 1 "healthy_threshold" 1
    "tcp_health_check" (dict "send" (dict "text" "524f4c450d0a") "receive" (list (dict "text" "6d6173746572"))) -}}
{{- $_ := set $cluster "health_checks" (list $check) -}}
{{- $_ := set $cluster "common_lb_config" (dict "healthy_panic_threshold" (dict "value" 0)) -}}
{{- $_ := set $cluster "close_connections_on_host_health_failure" true -}}
{{- end -}}
{{- with $values.redis.tls -}}
{{- if .enabled -}}
{{- $folder := "/etc/weir-redis-tls" -}}
{{- $san := dict "san_type" "DNS" "matcher" (dict "exact" .serverName) -}}
{{- $common := dict "validation_context" (dict "trusted_ca" (dict "filename" (printf "%s/ca.crt" $folder))
    "watched_directory" (dict "path" $folder) "match_typed_subject_alt_names" (list $san)) -}}
{{- if .clientCertificate -}}
{{- $pair := dict "certificate_chain" (dict "filename" (printf "%s/tls.crt" $folder))
    "private_key" (dict "filename" (printf "%s/tls.key" $folder)) "watched_directory" (dict "path" $folder) -}}
{{- $_ := set $common "tls_certificates" (list $pair) -}}
{{- end -}}
{{- $context := dict "@type" (printf "%s.transport_sockets.tls.v3.UpstreamTlsContext" $type) "sni" .serverName
    "common_tls_context" $common -}}
{{- $_ := set $cluster "transport_socket" (dict "name" "envoy.transport_sockets.tls" "typed_config" $context) -}}
{{- end -}}
{{- end -}}
{{- toJson $cluster -}}
{{- end }}

{{- /* A plugin as `typed_config`, as JSON. The argument is a dictionary: root, id (of the root context), code, vm_id,
       configuration, bodies. */}}
{{- define "weir.plugin" -}}
{{- $machine := dict "runtime" "envoy.wasm.runtime.v8" "code" .code -}}
{{- with .vm_id }}{{ $_ := set $machine "vm_id" . }}{{ end -}}
{{- if .root.Values.redis.passwordSecret.name -}}
{{- $_ := set $machine "environment_variables" (dict "host_env_keys" (list "REDIS_PASSWORD")) -}}
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
{{- $volumes := list (dict "name" "weir" "configMap" (dict "name" (include "weir.module" .))) -}}
{{- $mounts := list (dict "name" "weir" "mountPath" "/etc/weir" "readOnly" true) -}}
{{- $env := list -}}
{{- if .Values.redis.tls.enabled -}}
{{- $volumes = append $volumes (dict "name" "redis-tls" "secret" (dict "secretName" .Values.redis.tls.secretName)) -}}
{{- $mounts = append $mounts (dict "name" "redis-tls" "mountPath" "/etc/weir-redis-tls" "readOnly" true) -}}
{{- end -}}
{{- with .Values.redis.passwordSecret -}}
{{- if .name -}}
{{- $ref := dict "secretKeyRef" (dict "name" .name "key" .key) -}}
{{- $env = append $env (dict "name" "REDIS_PASSWORD" "valueFrom" $ref) -}}
{{- end -}}
{{- end -}}
{{- dict "volumes" $volumes "mounts" $mounts "env" $env | toJson -}}
{{- end }}
