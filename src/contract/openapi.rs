//! The contract as an OpenAPI 3.1 document, in YAML: a webhook with its headers,
//! its body and the meaning of each response. Pure.

use super::CONTRACT;
use super::schema::{Dialect, Json, Members, body, leaf};
use serde_json::json;
use std::fmt::Write as _;

/// Returns the document.
#[must_use]
pub fn openapi() -> String {
    let mut parameters = String::new();
    // A parameter may not describe content-type: the body's media type does.
    let headers = CONTRACT.headers.iter();
    for header in headers.filter(|header| header.name != "content-type") {
        let parameter = vec![
            leaf("in", "header"),
            leaf("required", !header.optional),
            leaf("description", format!("{} · {}", header.zh, header.en)),
            leaf("schema", json!({"type": header.json})),
            leaf("example", header.example.clone()),
        ];
        writeln!(parameters, "        - name: {}", header.name).expect("a String takes any text");
        yaml(&mut parameters, &parameter, 10);
    }
    let mut schemas = String::new();
    let mut all = vec![("CallEnded".to_owned(), Json::Object(body(Dialect::OpenApi)))];
    all.append(&mut Dialect::OpenApi.definitions());
    yaml(&mut schemas, &all, 4);
    include_str!("openapi.yaml")
        .replace("        # parameters\n", &parameters)
        .replace("    # schemas\n", &schemas)
        .replace("VERSION", env!("CARGO_PKG_VERSION"))
}

/// Writes members as YAML. JSON is YAML, so leaves are written as JSON.
fn yaml(text: &mut String, members: &Members, indent: usize) {
    for (key, value) in members {
        write!(text, "{:indent$}{key}:", "").expect("a String takes any text");
        match value {
            Json::Leaf(value) => writeln!(text, " {value}").expect("a String takes any text"),
            Json::Object(inner) => {
                text.push('\n');
                yaml(text, inner, indent + 2);
            }
        }
    }
}
