//! Typed messages: objects with `@type`, and the `TypedStruct`s that stand for them.

use super::at::At;

/// Types whose `type_url` names the message and whose `value` contains its fields.
pub const TYPED_STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// Message with the name of its type.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Full name, such as `envoy.extensions.filters.http.router.v3.Router`.
    pub name: &'a str,
    /// Fields of the message; also `@type`, unless the message is in a `TypedStruct`.
    pub body: At<'a>,
    /// The field with the URL: `@type`, or `type_url` of a `TypedStruct`.
    pub url: At<'a>,
}

impl<'a> Message<'a> {
    /// The message of an object with `@type`. A `TypedStruct` is replaced by the message in it.
    pub fn of(at: &At<'a>) -> Option<Self> {
        let outer = Self::outer(at)?;
        if !TYPED_STRUCTS.contains(&outer.name) {
            return Some(outer);
        }
        let url = at.field("type_url")?;
        let name = last_step(url.text()?);
        // Without fields, the message has its defaults.
        let body = at.field("value").unwrap_or_else(|| at.clone());
        Some(Self { name, body, url })
    }

    /// The message of an object with `@type`, also if it is a `TypedStruct`.
    pub fn outer(at: &At<'a>) -> Option<Self> {
        let url = at.field("@type")?;
        Some(Self { name: last_step(url.text()?), body: at.clone(), url })
    }

    /// Last step of the name, such as `Router`.
    pub fn short_name(&self) -> &'a str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// The name in a URL such as `type.googleapis.com/google.protobuf.Struct`.
fn last_step(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}
