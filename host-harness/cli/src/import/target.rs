//! Targets of policies: what a policy is attached to, in words, and the step by hand that follows.

use super::finding::{self, Findings};
use crate::documents::At;

/// `NAMESPACE/NAME` of a manifest.
pub(super) fn name(root: &At<'_>) -> String {
    let text = |field: &str| root.fields(["metadata", field]).and_then(|at| at.text()).unwrap_or_default().to_owned();
    match (text("namespace").as_str(), text("name").as_str()) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

/// The targets of a policy, such as `HTTPRoute toys`, and whether one is a gateway.
pub(super) fn targets(spec: &At<'_>) -> (String, bool) {
    let all = ["targetRef", "targetRefs"].into_iter().flat_map(|field| spec.each(field));
    let one = |at: At<'_>| {
        let section = at.text_of("sectionName");
        let section = if section.is_empty() { String::new() } else { format!(", section {section}") };
        (format!("{} {}{section}", at.text_of("kind"), at.text_of("name")), at.text_of("kind") == "Gateway")
    };
    let mut targets: Vec<(String, bool)> = all.map(one).collect();
    targets.extend(
        spec.each("targetSelectors")
            .iter()
            .map(|at| (format!("each {} of a selector", at.text_of("kind")), at.text_of("kind") == "Gateway")),
    );
    let has_gateway = targets.iter().any(|(_, is_gateway)| *is_gateway);
    (targets.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join(" and "), has_gateway)
}

/// Says that the configuration is to be attached to the target.
pub(super) fn by_hand(spec: &At<'_>, help: &str, findings: &mut Findings) -> String {
    let (targets, _) = targets(spec);
    let targets = if targets.is_empty() { "no target".to_owned() } else { targets };
    let field = ["targetRef", "targetRefs", "targetSelectors"].into_iter().find_map(|field| spec.field(field));
    findings.add(finding::TARGET, field.as_ref().unwrap_or(spec), format!("attached to {targets}"), help);
    targets
}
