//! A deployment of Envoy.

use super::istio;
use super::plan::Plan;
use super::template::Template;

const DEPLOYMENT: &str = include_str!("../../../../envoy/kubernetes/plain/envoy.yaml");

pub(super) fn render(plan: &Plan) -> Template {
    let mut template = Template::of(DEPLOYMENT);
    let bootstrap = template.document("ConfigMap");
    if plan.configuration.reads_bodies {
        bootstrap.insert("vm_config:", &["allow_on_headers_stop_iteration: true".to_owned()]);
    }
    if plan.password_env.is_none() {
        bootstrap.remove("environment_variables:");
        bootstrap.remove("environment_variables:");
        template.document("Deployment").remove("env:");
    }
    if plan.tls.is_some() {
        let socket = Template::of(istio::SECURED).document("EnvoyFilter").block("transport_socket:");
        template.document("ConfigMap").insert("# Raw TCP", &socket);
        let deployment = template.document("Deployment");
        deployment.append("volumeMounts:", "- {name: redis-tls, mountPath: /etc/weir/redis-tls, readOnly: true}");
        deployment.append("volumes:", "- {name: redis-tls, secret: {secretName: weir-redis-tls}}");
    }
    if let Some(upstream) = &plan.upstream {
        let address = format!("address: {}, port_value: {}", upstream.host, upstream.port);
        template.replace("address: orders.shop.svc.cluster.local, port_value: 8080", &address);
    }
    let namespace = plan.namespace("weir").to_owned();
    for end in ["}", ","] {
        template.replace(&format!("namespace: weir{end}"), &format!("namespace: {namespace}{end}"));
    }
    template.document("Deployment").replace("  namespace: weir", &format!("  namespace: {namespace}"));
    template.replace("0-1-0", &plan.version);
    template.documents.iter_mut().for_each(|lines| istio::redis(plan, lines));
    template
}
