//! A deployment of Envoy.

use super::plan::{Plan, Way};
use super::template::Template;
use super::{front_end, istio, redis_cluster};

const DEPLOYMENT: &str = include_str!("../../../../envoy/kubernetes/plain/envoy.yaml");

pub(super) fn render(plan: &Plan) -> Template {
    let mut template = Template::of(DEPLOYMENT);
    let bootstrap = template.document("ConfigMap");
    if plan.configuration.reads_bodies {
        bootstrap.insert("vm_config:", &["allow_on_headers_stop_iteration: true".to_owned()]);
    }
    if plan.filter_env().is_none() {
        bootstrap.remove("environment_variables:");
        bootstrap.remove("environment_variables:");
    }
    let tls =
        plan.tls.is_some().then(|| Template::of(istio::SECURED).document("EnvoyFilter").block("transport_socket:"));
    if plan.way.is_front_end() {
        bootstrap.put("- name: weir-redis", &front_end::cluster(plan));
    } else if plan.way == Way::Cluster {
        redis_cluster::bootstrap(plan, bootstrap, tls);
    } else if let Some(tls) = tls {
        bootstrap.insert("# Raw TCP", &tls);
    }
    let deployment = template.document("Deployment");
    if plan.password_env.is_none() {
        deployment.remove("env:");
    }
    front_end::token(plan, deployment);
    if plan.tls.is_some() {
        let mount = "- {name: redis-tls, mountPath: /etc/weir/redis-tls, readOnly: true}".to_owned();
        deployment.append("volumeMounts:", &[mount]);
        let volume = "- {name: redis-tls, secret: {secretName: weir-redis-tls}}".to_owned();
        deployment.append("volumes:", &[volume]);
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
