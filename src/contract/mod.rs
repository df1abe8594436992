//! The contract of a callback as data. It is in `deploy/contract/call-ended.json`:
//! one row a field, then notes on all fields, and the headers. A row has the key,
//! declared type, JSON types, form, meaning in Chinese and English, listed values,
//! note and example. From it come the tables of the guides, the JSON Schema, the
//! OpenAPI document and what `receive` explains. A value that is not listed is no
//! error. Pure.
//!
//! Source: the callback contract, its table, and its example where the two
//! differ.

pub mod markdown;
pub mod openapi;
pub mod schema;

use crate::model::named_enum::named_enum;
use serde::Deserialize;
use serde_json::Value;
use std::sync::LazyLock;

/// The contract.
pub static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let text = include_str!("../../deploy/contract/call-ended.json");
    serde_json::from_str(text).expect("a test reads it")
});

/// The members of the three kinds of objects in a callback, and its headers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contract {
    /// Members of `data`: the table in its order, then the keys that only the
    /// example has.
    pub data: Vec<Field>,
    pub expansion_fields: Vec<Field>,
    pub other_rules: Vec<Field>,
    /// Notes on all fields, in Markdown.
    pub notes: Vec<Words>,
    /// Headers of the request.
    pub headers: Vec<RequestHeader>,
}

/// A text in both languages.
#[derive(Deserialize, Debug)]
pub struct Words {
    pub zh: String,
    pub en: String,
}

/// One field.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    /// Type in the contract's table; none where the table lacks the field.
    pub declared: Option<String>,
    /// JSON types of its values.
    pub json: Vec<JsonType>,
    #[serde(default)]
    pub form: ValueForm,
    pub zh: String,
    pub en: String,
    #[serde(default)]
    pub values: Vec<ListedValue>,
    /// What surprises its readers.
    pub note: Option<Words>,
    pub example: Value,
}

/// One header of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestHeader {
    pub name: String,
    /// JSON Schema type of its value.
    pub json: String,
    /// Not on every request.
    #[serde(default)]
    pub optional: bool,
    /// Meaning in Markdown.
    pub zh: String,
    pub en: String,
    pub example: Value,
}

/// How to read a value, where its JSON type does not tell.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "snake_case")]
pub enum ValueForm {
    #[default]
    Plain,
    /// May be beyond 2^53.
    Big,
    Seconds,
    /// A moment, as a number or as a string of digits.
    EpochMs,
    /// A string that holds JSON: `{}`, or an array of custom fields.
    CustomFields,
    /// An object, although the contract's table says String.
    Rules,
}

/// One listed value of a field.
#[derive(Deserialize, Debug)]
pub struct ListedValue {
    /// The value, without quotes where it is a string.
    pub value: String,
    pub zh: String,
    pub en: String,
}

named_enum! {
    /// A language of the contract's texts.
    pub enum Language {
        Chinese = "zh",
        English = "en",
    }
}

impl Language {
    /// Returns the text in this language.
    #[must_use]
    pub const fn of<'t>(self, zh: &'t str, en: &'t str) -> &'t str {
        match self {
            Self::Chinese => zh,
            Self::English => en,
        }
    }
}

named_enum! {
    /// A JSON type; its name is in English, with an article.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum JsonType {
        String = "a string",
        Number = "a number",
        Boolean = "a boolean",
        Object = "an object",
        Array = "an array",
        Null = "null",
    }
}

impl JsonType {
    /// Returns the type of a JSON text, by its first character.
    #[must_use]
    pub fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') => Self::String,
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SPEC: &str = include_str!("../../tests/contract/callback-spec.zh.md");
    const EXAMPLE: &str = include_str!("../../tests/contract/example-request.json");

    /// The rows of the contract's three tables: name, type, explanation.
    fn rows() -> Vec<Vec<(&'static str, &'static str, &'static str)>> {
        let mut tables = Vec::new();
        for line in SPEC.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            match cells[1] {
                "参数" => tables.push(Vec::new()),
                "---" => {}
                name => tables
                    .last_mut()
                    .expect("a table has a head")
                    .push((name, cells[2], cells[3])),
            }
        }
        tables
    }

    #[test]
    fn the_lists_are_the_contracts_tables_in_their_order() {
        let tables = rows();
        assert_eq!(tables.iter().map(Vec::len).collect::<Vec<_>>(), [34, 4, 2]);
        let lists = [
            &CONTRACT.data,
            &CONTRACT.expansion_fields,
            &CONTRACT.other_rules,
        ];
        for (table, list) in tables.iter().zip(lists) {
            let listed = list.iter().filter(|field| field.declared.is_some());
            for (row, field) in table.iter().zip(listed.clone()) {
                let declared = field.declared.as_deref();
                assert_eq!((row.0, Some(row.1)), (field.name.as_str(), declared));
                if field.values.is_empty() && row.1 != "object" {
                    assert_eq!(row.2, field.zh, "{}", field.name);
                }
                for listed in &field.values {
                    let in_row = row.2.contains(&listed.value) && row.2.contains(&listed.zh);
                    let by_type = field.name == "fieldInnerType";
                    assert!(in_row || by_type, "{} {}", field.name, listed.value);
                }
            }
            assert_eq!(listed.count(), table.len());
        }
    }

    #[test]
    fn the_examples_keys_are_all_listed_and_four_are_not_in_the_table() {
        let example: serde_json::Value = serde_json::from_str(EXAMPLE).unwrap();
        let data = example["data"].as_object().unwrap();
        let keys: HashSet<&str> = data.keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 31);
        let beside = CONTRACT.data.iter().filter(|f| f.declared.is_none());
        let beside: Vec<&str> = beside.map(|field| field.name.as_str()).collect();
        assert_eq!(
            beside,
            ["agentLoginType", "callResult", "customerId", "noteStatus"]
        );
        for key in &keys {
            let field = CONTRACT.data.iter().find(|field| field.name == *key);
            let field = field.expect("every key of the example is listed");
            let raw = data[*key].to_string();
            assert!(field.json.contains(&JsonType::of(&raw)), "{key}: {raw}");
            // The example holds two values under this key.
            assert!(
                field.example == data[*key] || *key == "expansionFields",
                "{key}"
            );
        }
        let absent = CONTRACT
            .data
            .iter()
            .filter(|f| !keys.contains(f.name.as_str()));
        assert_eq!(absent.count(), 7);
    }
}
