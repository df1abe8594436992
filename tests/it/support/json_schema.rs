//! Checks JSON against a JSON Schema, of which it knows what the schemas of
//! Grafana's types use; another keyword fails loudly.

use serde_json::Value;

/// What does not fit, each with its place.
pub fn mistakes(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let checked = Check {
        definitions: &schema["definitions"],
    };
    checked.look(schema, value, "", &mut found);
    found
}

struct Check<'s> {
    definitions: &'s Value,
}

impl Check<'_> {
    fn look(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        let Some(keywords) = schema.as_object() else {
            assert_eq!(schema, &Value::Bool(true), "{at}: what schema is that?");
            return;
        };
        for (keyword, says) in keywords {
            match keyword.as_str() {
                "$schema" | "definitions" => {}
                "$ref" => {
                    let name = says.as_str().and_then(|s| s.strip_prefix("#/definitions/"));
                    let named = &self.definitions[name.expect("a definition's name")];
                    assert!(named.is_object(), "{at}: no definition {says}");
                    self.look(named, value, at, found);
                }
                "type" => {
                    let names = says
                        .as_array()
                        .map_or(std::slice::from_ref(says), Vec::as_slice);
                    if !names.iter().any(|name| is_of(name, value)) {
                        found.push(format!("{at}: is not of type {says}: {value}"));
                    }
                }
                "enum" => {
                    if !says.as_array().expect("a list").contains(value) {
                        found.push(format!("{at}: is none of {says}: {value}"));
                    }
                }
                "const" => {
                    if says != value {
                        found.push(format!("{at}: is not {says}: {value}"));
                    }
                }
                "anyOf" => {
                    let fits = |schema: &Value| {
                        let mut found = Vec::new();
                        self.look(schema, value, at, &mut found);
                        found.is_empty()
                    };
                    if !says.as_array().expect("a list").iter().any(fits) {
                        found.push(format!("{at}: fits none of its kinds: {value}"));
                    }
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.look(says, item, &format!("{at}[{index}]"), found);
                    }
                }
                "properties" | "additionalProperties" => {}
                "required" => {
                    for name in says.as_array().expect("a list") {
                        let name = name.as_str().expect("a name");
                        if value.is_object() && value.get(name).is_none() {
                            found.push(format!("{at}: {name} is missing"));
                        }
                    }
                }
                unknown => panic!("{at}: the keyword {unknown} is not supported"),
            }
        }
        self.properties(schema, value, at, found);
    }

    fn properties(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            if let Some(schema) = schema["properties"].get(name) {
                self.look(schema, value, &at, found);
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => found.push(format!("{at}: is not allowed")),
                Some(schema) => self.look(schema, value, &at, found),
                None => {}
            }
        }
    }
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type's name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        unknown => panic!("the type {unknown} is not supported"),
    }
}
