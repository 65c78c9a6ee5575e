//! The JSON Schema (draft 2020-12) of `tiebeam.toml`, printed from the same list of keys that reads it.

use serde_json::{Map, Value, json};

use crate::file::{FILE, Need, Section};

/// What `tiebeam schema` prints; editors use it to complete and to check while somebody types.
///
/// It knows each key, its type and its bounds. Rules across sections are only known to [`crate::Cluster::parse`].
pub fn schema() -> Value {
    let mut schema = table(&FILE);
    if let Value::Object(members) = &mut schema {
        members.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".into(), json!("tiebeam.toml"));
    }
    schema
}

/// One table: its keys, and no others.
pub(crate) fn table(section: &Section) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in section.keys {
        let mut property = key.shape().schema();
        if let Value::Object(members) = &mut property {
            let mut about = key.about().to_owned();
            match key.need() {
                Need::Required => required.push(key.name()),
                Need::Default(text) => {
                    if let Some(value) = json_of(text) {
                        members.insert("default".into(), value);
                    }
                }
                Need::Optional(otherwise) => about = format!("{about}. Without it: {otherwise}"),
            }
            members.insert("description".into(), json!(about));
        }
        properties.insert(key.name().to_owned(), property);
    }
    json!({
        "type": "object",
        "description": section.about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn json_of(toml_value: &str) -> Option<Value> {
    let document: toml::Table = toml::from_str(&format!("v = {toml_value}")).ok()?;
    serde_json::to_value(document.get("v")?).ok()
}
