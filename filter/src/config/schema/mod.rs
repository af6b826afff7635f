//! JSON Schema of the configuration, for editors: what the parser says that it expects, at every place.
//!
//! The parser is asked, not copied: `Explorer` leads it to each place of a configuration with values that no field
//! takes, and the errors name fields, types and bounds. Descriptions and defaults are those of the documentation's
//! tables. So a new field is in the schema as soon as it is in the parser, and is described once it is documented.
//!
//! A schema is coarser than the parser, and never stricter: it knows no relation between fields (names that must
//! differ, a bucket that fills within 142 years), counts characters instead of bytes, and cannot compare durations.
//! `config::tests::schema` lists all that it does not say.

mod explorer;
mod meanings;
mod place;
mod shape;
mod words;

use serde_json::{Value, json};

use self::explorer::Explorer;

/// The page of the documentation with the tables of all fields.
const PAGE: &str = include_str!("../../../../docs/src/configuration.md");

/// Returns the schema, as JSON Schema draft 7, which all editors know.
#[must_use]
pub fn schema() -> Value {
    let mut explorer = Explorer::new(PAGE);
    let mut schema = explorer.explore();
    if let Value::Object(fields) = &mut schema {
        fields.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        fields.insert("title".into(), json!("Configuration of Weir"));
        fields.insert("definitions".into(), Value::Object(explorer.definitions()));
    }
    schema
}
