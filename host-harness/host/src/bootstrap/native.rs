//! Parser of native HTTP filters: `jwt_authn` and `set_filter_state`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access_log::text_template;
use super::document::{Fields, Node};
use super::route_match::path_match;
use super::support::{self, Message};
use crate::native::{
    Bypass, FilterStateValue, Jwks, JwtAuthn, NativeFilter, Provider, Requirement, Rule, SetFilterState,
};

/// Message types that [`native_filter`] parses.
pub(super) const KNOWN: &[&Message] = &[&support::JWT_AUTHN, &support::SET_FILTER_STATE];

/// Parses the configuration of a filter from a message of one of the [`KNOWN`] types.
pub(super) fn native_filter(message: &Message, fields: Fields<'_>) -> Option<NativeFilter> {
    match message.name {
        name if name == support::JWT_AUTHN.name => jwt_authn(fields).map(NativeFilter::JwtAuthn),
        _ => set_filter_state(fields).map(NativeFilter::SetFilterState),
    }
}

/// Providers by name; `None` for a refused provider, so that references to it are not refused as well.
type Providers = BTreeMap<String, Option<Arc<Provider>>>;

fn jwt_authn(mut fields: Fields<'_>) -> Option<JwtAuthn> {
    let known = fields.require("providers").and_then(|node| providers(&node));
    let rules = fields.take("rules");
    fields.finish();
    let known = known?;
    let rules = rules.map(|node| node.each(|node| rule(node, &known))).unwrap_or_default();
    known.values().all(Option::is_some).then_some(())?;
    Some(JwtAuthn { rules: rules.into_iter().collect::<Option<_>>()? })
}

fn providers(node: &Node<'_>) -> Option<Providers> {
    let parsed = node.entries()?.into_iter().map(|(name, node)| (name.to_owned(), provider(&node).map(Arc::new)));
    Some(parsed.collect())
}

fn provider(node: &Node<'_>) -> Option<Provider> {
    let mut fields = node.message(&support::JWT_PROVIDER)?;
    let issuer = optional_text(fields.take("issuer"));
    let audiences = fields.take("audiences").map(|node| node.each(Node::string)).unwrap_or_default();
    let keys = fields.require("local_jwks").and_then(|node| local_jwks(&node));
    let payload_in_metadata = optional_text(fields.take("payload_in_metadata"));
    let forward = fields.take("forward").map_or(Some(false), |node| node.boolean());
    fields.finish();
    Some(Provider {
        issuer: issuer?,
        audiences: audiences.into_iter().collect::<Option<_>>()?,
        keys: keys?,
        payload_in_metadata: payload_in_metadata?,
        forward: forward?,
    })
}

/// Parses an optional text; an empty text is `None`, as in protobuf.
fn optional_text(node: Option<Node<'_>>) -> Option<Option<String>> {
    let Some(node) = node else { return Some(None) };
    node.string().map(|text| Some(text).filter(|text| !text.is_empty()))
}

fn local_jwks(node: &Node<'_>) -> Option<Jwks> {
    let mut fields = node.message(&support::DATA_SOURCE)?;
    let inline = fields.require("inline_string");
    fields.finish();
    let inline = inline?;
    match Jwks::parse(&inline.string()?) {
        Ok(keys) => Some(keys),
        Err(error) => {
            inline.refuse(&error.to_string());
            None
        }
    }
}

fn rule(node: &Node<'_>, known: &Providers) -> Option<Rule> {
    let mut fields = node.message(&support::JWT_RULE)?;
    let path = fields.require("match").and_then(|node| path_match(&node));
    let requirement = fields.take("requires").map(|node| requirement(&node, known));
    fields.finish();
    let requirement = match requirement {
        None => None,
        Some(requirement) => Some(requirement?),
    };
    Some(Rule { path: path?, requirement })
}

fn requirement(node: &Node<'_>, known: &Providers) -> Option<Requirement> {
    let mut fields = node.message(&support::JWT_REQUIREMENT)?;
    let named = fields.take("provider_name").map(|node| one_of(&node, known));
    let any = fields.take("requires_any").map(|node| requires_any(&node, known));
    fields.finish();
    match (named, any) {
        (Some(provider), None) => Some(Requirement { providers: vec![provider?], bypass: Bypass::Never }),
        (None, Some(any)) => any,
        _ => node.expected("one of `provider_name` and `requires_any`"),
    }
}

fn requires_any(node: &Node<'_>, known: &Providers) -> Option<Requirement> {
    let mut fields = node.message(&support::JWT_ANY)?;
    let requirements = fields.require("requirements").map(|node| node.each(|node| alternative(node, known)));
    fields.finish();
    let (mut providers, mut bypass) = (Vec::new(), Bypass::Never);
    for alternative in requirements? {
        match alternative? {
            Alternative::Of(provider) => providers.push(provider),
            Alternative::Without(Bypass::Missing) if bypass == Bypass::MissingOrFailed => {}
            Alternative::Without(without) => bypass = without,
        }
    }
    if providers.is_empty() {
        node.child("requirements").refuse("expected at least one `provider_name`");
        return None;
    }
    Some(Requirement { providers, bypass })
}

enum Alternative {
    Of(Arc<Provider>),
    Without(Bypass),
}

fn alternative(node: &Node<'_>, known: &Providers) -> Option<Alternative> {
    let mut fields = node.message(&support::JWT_REQUIREMENT)?;
    let empty = |node: Node<'_>| node.fields().map(Fields::finish);
    let named = fields.take("provider_name").map(|node| one_of(&node, known).map(Alternative::Of));
    let missing = fields.take("allow_missing").map(|node| empty(node).map(|()| Alternative::Without(Bypass::Missing)));
    let failed = fields
        .take("allow_missing_or_failed")
        .map(|node| empty(node).map(|()| Alternative::Without(Bypass::MissingOrFailed)));
    fields.finish();
    match (named, missing, failed) {
        (Some(one), None, None) | (None, Some(one), None) | (None, None, Some(one)) => one,
        _ => node.expected("one of `provider_name`, `allow_missing` and `allow_missing_or_failed`"),
    }
}

fn one_of(node: &Node<'_>, known: &Providers) -> Option<Arc<Provider>> {
    let name = node.string()?;
    match known.get(&name) {
        Some(provider) => provider.clone(),
        None => {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            node.refuse(&format!("`{name}` is not a provider of this filter; expected one of {}", names.join(", ")));
            None
        }
    }
}

fn set_filter_state(mut fields: Fields<'_>) -> Option<SetFilterState> {
    let values = fields.take("on_request_headers").map(|node| node.each(filter_state_value)).unwrap_or_default();
    fields.finish();
    Some(SetFilterState { on_request_headers: values.into_iter().collect::<Option<_>>()? })
}

fn filter_state_value(node: &Node<'_>) -> Option<FilterStateValue> {
    let mut fields = node.message(&support::FILTER_STATE_VALUE)?;
    let object_key = fields.require("object_key").and_then(|node| node.string());
    let factory = fields.require("factory_key").map(|node| node.named(&[("envoy.string", ())]));
    let format = fields.require("format_string").and_then(|node| text_template(&node));
    let skip_if_empty = fields.take("skip_if_empty").map_or(Some(false), |node| node.boolean());
    fields.finish();
    factory??;
    Some(FilterStateValue { object_key: object_key?, format: format?, skip_if_empty: skip_if_empty? })
}
