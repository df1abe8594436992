//! The contract as JSON Schema 2020-12. It says what ringback keeps to: `id` and
//! `tenantId` are there, and any other field may be absent or null. Listed values
//! and forms are annotations, because a value that is not listed is no error. Pure.

use super::markdown::meaning;
use super::{CONTRACT, Field, JsonType, Language, ValueForm};
use crate::model::call::RecordId;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// JSON whose outer objects keep the order of their members.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Json {
    Leaf(Value),
    Object(#[serde(serialize_with = "in_order")] Members),
}

/// The members of an object.
pub type Members = Vec<(String, Json)>;

fn in_order<S: Serializer>(members: &Members, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(members.iter().map(|(key, value)| (key, value)))
}

/// Returns a member that is a leaf.
#[must_use]
pub fn leaf(key: &str, value: impl Into<Value>) -> (String, Json) {
    (key.to_owned(), Json::Leaf(value.into()))
}

/// Where the definitions of the objects are. It also decides how a 64-bit integer
/// is marked: ajv refuses OpenAPI's formats, and generators for OpenAPI need them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    JsonSchema,
    OpenApi,
}

impl Dialect {
    fn reference(self, name: &str) -> Value {
        json!(match self {
            Self::JsonSchema => format!("#/$defs/{name}"),
            Self::OpenApi => format!("#/components/schemas/{name}"),
        })
    }

    /// Returns the definitions of a callback's objects.
    #[must_use]
    pub fn definitions(self) -> Members {
        let required = ["id", "tenantId"];
        let object = |about: &str, list: &[Field], required: &[&str]| {
            let field = |field: &Field| {
                let is_required = required.contains(&field.name.as_str());
                (
                    field.name.clone(),
                    Json::Object(self.field(field, is_required)),
                )
            };
            let mut members = vec![leaf("type", "object"), leaf("description", about)];
            if !required.is_empty() {
                members.push(leaf("required", required));
            }
            let fields = list.iter().map(field).collect();
            members.push(("properties".to_owned(), Json::Object(fields)));
            Json::Object(members)
        };
        let of = |name: &str, object| (name.to_owned(), object);
        vec![
            of(
                "Call",
                object("通话记录 · The record of a call", &CONTRACT.data, &required),
            ),
            of(
                "CustomField",
                object(
                    "expansionFields 的一项 · An item of expansionFields",
                    &CONTRACT.expansion_fields,
                    &[],
                ),
            ),
            of(
                "CustomFieldRules",
                object(
                    "自定义字段的规则 · The rules of a custom field",
                    &CONTRACT.other_rules,
                    &[],
                ),
            ),
        ]
    }

    fn field(self, field: &Field, is_required: bool) -> Members {
        let mut members = Vec::new();
        if is_required {
            members.push(leaf("type", "string"));
            members.push(leaf("minLength", 1));
            members.push(leaf("maxLength", RecordId::LEN_MAX));
        } else if field.form == ValueForm::Rules {
            members.push(leaf("$ref", self.reference("CustomFieldRules")));
        } else {
            members.append(&mut self.types(field));
        }
        let mut about = Language::ALL
            .map(|language| meaning(language, field))
            .join(" · ");
        if !field.values.is_empty() {
            about += " · 可能出现其他值。Other values are possible.";
        }
        members.push(leaf("description", about));
        if field.form == ValueForm::CustomFields {
            let items = json!({"type": "array", "items": {"$ref": self.reference("CustomField")}});
            members.push(leaf("contentMediaType", "application/json"));
            members.push(leaf(
                "contentSchema",
                json!({"anyOf": [{"type": "object"}, items]}),
            ));
        }
        let listed = field.values.iter().map(|listed| match field.json[..] {
            [JsonType::Number] => serde_json::from_str(&listed.value).expect("a test reads it"),
            _ => json!(listed.value),
        });
        let mut examples: Vec<Value> = listed.collect();
        if examples.is_empty() {
            examples.push(field.example.clone());
        }
        members.push(leaf("examples", examples));
        members
    }

    /// Returns the type of a field that may be null.
    fn types(self, field: &Field) -> Members {
        let types = field.json.iter().map(|json| match json {
            JsonType::String => "string",
            JsonType::Number => "integer",
            JsonType::Boolean => "boolean",
            JsonType::Object => "object",
            JsonType::Array => "array",
            JsonType::Null => "null",
        });
        let types: Vec<&str> = types.chain(["null"]).collect();
        if types.len() > 2 {
            let any = types.iter().map(|name| json!({"type": name}));
            return vec![leaf("anyOf", any.collect::<Vec<_>>())];
        }
        let is_number = field.json == [JsonType::Number];
        let mut members = vec![leaf("type", types)];
        if is_number && matches!(field.form, ValueForm::Big | ValueForm::EpochMs) {
            members.append(&mut match self {
                Self::JsonSchema => vec![leaf("minimum", i64::MIN), leaf("maximum", i64::MAX)],
                Self::OpenApi => vec![leaf("format", "int64")],
            });
        }
        members
    }
}

/// Returns the body of a callback: an object whose only member is the record.
#[must_use]
pub fn body(dialect: Dialect) -> Members {
    let data = vec![leaf("$ref", dialect.reference("Call"))];
    let data = vec![("data".to_owned(), Json::Object(data))];
    let fields = CONTRACT.data.iter();
    let example: serde_json::Map<String, Value> = fields
        .map(|field| (field.name.clone(), field.example.clone()))
        .collect();
    vec![
        leaf("type", "object"),
        leaf("description", "回调的请求体 · The body of a callback"),
        leaf("required", ["data"].as_slice()),
        ("properties".to_owned(), Json::Object(data)),
        leaf("examples", json!([{ "data": example }])),
    ]
}

/// Returns the schema of a callback's body, as JSON text.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = vec![
        leaf("$schema", "https://json-schema.org/draft/2020-12/schema"),
        leaf("$id", "urn:ringback:call-ended"),
        leaf("title", "CallEnded"),
    ];
    schema.append(&mut body(Dialect::JsonSchema));
    let definitions = Dialect::JsonSchema.definitions();
    schema.push(("$defs".to_owned(), Json::Object(definitions)));
    let text = serde_json::to_string_pretty(&Json::Object(schema));
    text.expect("its keys are texts") + "\n"
}
