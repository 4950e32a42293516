//! The keys of a configuration file as a JSON schema, for editors and other programs.
//!
//! It is made from the options, as the reader is: it can say nothing that the reader does
//! not take. What a schema has no words for (that an address is listened on once, that a
//! size is between two others) `sockserve check` finds.

use super::ProcessKeys;
use super::keys::{Key, Keys, Shape};
use crate::cli::serve::{NAME_CHARACTERS, ServiceKeys};
use serde_json::{Map, Value, json};

/// Returns the schema.
pub(in crate::cli) fn schema() -> Value {
    let (process, service) = (Keys::of::<ProcessKeys>(), Keys::of::<ServiceKeys>());
    let mut top = properties(&process);
    let keys = json!({ "$ref": "#/$defs/keys" });
    top.insert(
        "defaults".to_owned(),
        with(
            "Keys that each service has that does not have them itself",
            keys.clone(),
        ),
    );
    top.insert(
        "services".to_owned(),
        json!({
            "description": "A table per service, under the name of the service",
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": format!("^{NAME_CHARACTERS}{{1,64}}$") },
            "additionalProperties": keys,
        }),
    );
    let required = service.iter().filter(|key| key.arg.is_required_set());
    let required: Vec<_> = required.map(|key| anywhere(key.name())).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sockserve.toml",
        "description": "The services of a process of sockserve, for `sockserve serve --config`",
        "type": "object",
        "properties": top,
        "required": ["services"],
        "additionalProperties": false,
        "allOf": required,
        "$defs": {
            "keys": {
                "type": "object",
                "properties": properties(&service),
                "additionalProperties": false,
            },
        },
    })
}

/// A key that each service needs, unless it is in the defaults.
fn anywhere(key: &str) -> Value {
    json!({
        "anyOf": [
            {
                "properties": { "defaults": { "required": [key] } },
                "required": ["defaults"],
            },
            { "properties": { "services": { "additionalProperties": { "required": [key] } } } },
        ],
    })
}

fn properties(keys: &Keys) -> Map<String, Value> {
    let properties = keys
        .iter()
        .map(|key| (key.name().to_owned(), property(key)));
    properties.collect()
}

fn property(key: &Key) -> Value {
    let one = value(key);
    let one = if key.repeats && key.shape != Shape::Pairs {
        json!({ "anyOf": [one, { "type": "array", "items": one }] })
    } else {
        one
    };
    let help = key.arg.get_long_help().or(key.arg.get_help());
    let help = help.map(|help| help.to_string().replace('\n', " "));
    let mut property = with(&help.unwrap_or_default(), one);
    let default = key.arg.get_default_values().first();
    let default = default.and_then(|default| default.to_str());
    if let (Some(default), Some(property)) = (default, property.as_object_mut()) {
        let default = match key.shape {
            Shape::Integer { .. } | Shape::Number => serde_json::from_str(default).ok(),
            Shape::Flag => None,
            Shape::Text | Shape::Pairs => Some(json!(default)),
        };
        property.extend(default.map(|default| ("default".to_owned(), default)));
    }
    property
}

/// What one value of a key may be.
fn value(key: &Key) -> Value {
    match key.shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Integer { least } => json!({ "type": "integer", "minimum": least }),
        Shape::Number => json!({ "type": "number" }),
        Shape::Pairs => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Shape::Text => {
            let words = key.arg.get_possible_values();
            let words: Vec<_> = words.iter().map(|word| word.get_name()).collect();
            if words.is_empty() {
                json!({ "type": "string" })
            } else {
                json!({ "type": "string", "enum": words })
            }
        }
    }
}

/// Adds a description to a schema.
fn with(description: &str, mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), json!(description));
    }
    schema
}
