//! The contract as Markdown: the tables and notes of the tenants' guides. Pure.

use super::{CONTRACT, Field, JsonType, Language, ValueForm, Words};
use std::fmt::Write as _;

/// Returns the fields, the notes on them and the headers, in one language.
#[must_use]
pub fn markdown(language: Language) -> String {
    let say = |zh, en| language.of(zh, en);
    let mut text = fields(language, &CONTRACT.data);
    let head = say(
        "\n请注意以下几点，多数在示例中就能看到：\n",
        "\nTake care of these points; most of them are in the example:\n",
    );
    text.push_str(head);
    for Words { zh, en } in &CONTRACT.notes {
        writeln!(text, "- {}", language.of(zh, en)).expect("a String takes any text");
    }
    text.push_str(say(
        "\n`expansionFields` 是内容为 JSON 的字符串：`{}`，或由自定义字段组成的数组，每一项包含\n\n",
        "\n`expansionFields` is a string that contains JSON: `{}`, or an array of custom fields. Each custom field has\n\n",
    ));
    text.push_str(&fields(language, &CONTRACT.expansion_fields));
    text.push_str(say(
        "\n其中 `otherRules` 包含\n\n",
        "\nand `otherRules` with\n\n",
    ));
    text.push_str(&fields(language, &CONTRACT.other_rules));
    text.push_str(say(
        "\n## 请求头\n| 请求头 | 内容 |\n|---|---|\n",
        "\n## Headers\n| header | holds |\n|---|---|\n",
    ));
    for header in &CONTRACT.headers {
        let holds = language.of(&header.zh, &header.en);
        writeln!(text, "| `{}` | {holds} |", header.name).expect("a String takes any text");
    }
    text
}

/// Returns a table of fields.
fn fields(language: Language, list: &[Field]) -> String {
    let mut table = language
        .of(
            "| 字段 | 约定类型 | 实际 JSON 类型 | 说明 | 例 |\n|---|---|---|---|---|\n",
            "| field | type in the contract | JSON type | meaning | example |\n|---|---|---|---|---|\n",
        )
        .to_owned();
    for field in list {
        let declared = field.declared.as_deref().unwrap_or("–");
        let (zh, en) = holds(field);
        let (name, holds, meaning) = (&field.name, language.of(zh, en), meaning(language, field));
        let example = &field.example;
        writeln!(
            table,
            "| `{name}` | {declared} | {holds} | {meaning} | `{example}` |"
        )
        .expect("a String takes any text");
    }
    table
}

/// Returns the meaning of a field, its listed values and its note.
#[must_use]
pub fn meaning(language: Language, field: &Field) -> String {
    let mut text = language.of(&field.zh, &field.en).to_owned();
    let stop = language.of("。", ". ");
    if !field.values.is_empty() {
        let value = |listed: &super::ListedValue| {
            let means = language.of(&listed.zh, &listed.en);
            format!("{}{}{means}", listed.value, language.of("：", ": "))
        };
        let values: Vec<String> = field.values.iter().map(value).collect();
        text = format!("{text}{stop}{}", values.join(language.of("；", "; ")));
    }
    if let Some(note) = &field.note {
        let mark = language.of("注意：", "Note: ");
        text = format!("{text}{stop}{mark}{}", language.of(&note.zh, &note.en));
    }
    text
}

/// Returns what the values of a field really are: Chinese, English.
fn holds(field: &Field) -> (&'static str, &'static str) {
    match (field.form, &field.json[..]) {
        (ValueForm::Big, _) => ("数字，可能大于 2^53", "number, may exceed 2^53"),
        (ValueForm::EpochMs, [JsonType::Number]) => {
            ("数字，毫秒时间戳", "number, epoch milliseconds")
        }
        (ValueForm::EpochMs, _) => (
            "字符串，内容为毫秒时间戳",
            "string that holds epoch milliseconds",
        ),
        (ValueForm::CustomFields, _) => (
            "字符串，内容为 JSON：`{}` 或数组",
            "string that holds JSON: `{}` or an array",
        ),
        (_, [JsonType::String]) => ("字符串", "string"),
        (_, [JsonType::Number]) => ("数字", "number"),
        (_, [JsonType::Boolean]) => ("布尔值", "boolean"),
        (_, [JsonType::Object]) => ("对象", "object"),
        (_, [JsonType::String, _]) => ("字符串或数组", "string or array"),
        (_, _) => ("对象或数组", "object or array"),
    }
}
