//! The fields of a callback as the contract's table and example have them: the
//! one list from which `receive` explains and against which the tenants' guide
//! is checked. Names stay as they are spelt. Enumerations are open: a value that
//! is not listed is no error.
//!
//! Source: the callback contract, its table, and its example where the two
//! differ.

use super::field::{Choice, Field, Holds, JsonType};

const fn is(value: &'static str, zh: &'static str, en: &'static str) -> Choice {
    Choice { value, zh, en }
}

const fn field(
    name: &'static str,
    declared: &'static str,
    holds: Holds,
    zh: &'static str,
    en: &'static str,
) -> Field {
    Field {
        name,
        declared: Some(declared),
        holds,
        zh,
        en,
    }
}

const fn unlisted(name: &'static str, holds: Holds, zh: &'static str, en: &'static str) -> Field {
    Field {
        name,
        declared: None,
        holds,
        zh,
        en,
    }
}

const fn numbers(choices: &'static [Choice]) -> Holds {
    Holds::Choices(JsonType::Number, choices)
}

const CALL_TYPES: &[Choice] = &[is("1", "呼入", "inbound"), is("2", "呼出", "outbound")];

const SOURCES: &[Choice] = &[
    is("1", "常规业务", "regular business"),
    is("2", "批量外呼", "batch outbound calls"),
    is("3", "IVR流程", "IVR flow"),
];

const CALL_RESULTS: &[Choice] = &[
    is("0", "默认值(无意义)", "default, no meaning"),
    is("1", "无法接通", "unreachable"),
    is("2", "已接通", "answered"),
    is("3", "无人应答", "no answer"),
    is("4", "队列放弃", "abandoned in the queue"),
    is("5", "非服务时间", "outside service hours"),
    is("6", "坐席振铃未接", "rang at the agent, not answered"),
    is("7", "客户速挂", "customer hung up at once"),
    is("8", "IVR中放弃", "abandoned in the IVR"),
    is(
        "9",
        "客户振铃坐席挂机",
        "agent hung up while the customer's phone rang",
    ),
    is("10", "禁止呼叫", "calling forbidden"),
];

const SCORES: &[Choice] = &[
    is("0", "未评价", "not rated"),
    is("1", "非常满意", "very satisfied"),
    is("2", "满意", "satisfied"),
    is("3", "一般", "neutral"),
    is("4", "不满意", "dissatisfied"),
    is("5", "非常不满意", "very dissatisfied"),
];

const HANGUP_CODES: &[Choice] = &[
    is("0", "客户挂断", "customer"),
    is("1", "坐席挂断", "agent"),
    is("2", "未知", "unknown"),
    is("3", "转接挂断", "transfer"),
];

const HANGUP_WORDS: &[Choice] = &[
    is("CONTACT_DROPPED_CALL", "客户挂机", "customer"),
    is("AGENT_DROPPED_CALL", "坐席挂机", "agent"),
    is("TRANSFER_DROPPED_CALL", "转接挂断", "transfer"),
];

const ITEM_TYPES: &[Choice] = &[
    is("0", "通话小节", "call summary"),
    is("1", "服务备注", "service note"),
    is("2", "单行文本", "one line of text"),
    is("3", "多行文本", "several lines of text"),
    is("4", "下拉框", "drop-down list"),
    is("5", "选框", "check boxes"),
    is("6", "数字", "number"),
    is("7", "日期和时间", "date and time"),
];

const INNER_TYPES: &[Choice] = &[
    is(
        "0",
        "单选项 / 数值 / 仅日期",
        "single choice / number / date only",
    ),
    is(
        "1",
        "多选项 / 百分比 / 日期和时间",
        "multiple choice / percentage / date and time",
    ),
];

/// The members of `data`: the contract's table in its order, then what its
/// example has beside the table.
pub const FIELDS: &[Field] = &[
    field("id", "String", Holds::Text, "通话记录ID", "call record id"),
    field(
        "iccCallId",
        "String",
        Holds::Text,
        "拨打通话记录id",
        "id of the dialled call",
    ),
    field("tenantId", "String", Holds::Text, "租户ID", "tenant id"),
    field(
        "communicateVoiceId",
        "String",
        Holds::Text,
        "通话录音ID",
        "id of the recording",
    ),
    field(
        "iccRecordDate",
        "String",
        Holds::MomentInText,
        "icc开始接通电话时间戳",
        "when the call was connected at the icc",
    ),
    field(
        "callType",
        "Integer",
        numbers(CALL_TYPES),
        "通话类型",
        "type of the call",
    ),
    field(
        "callingNumber",
        "String",
        Holds::Text,
        "主叫号码",
        "calling number",
    ),
    field(
        "calledNumber",
        "String",
        Holds::Text,
        "被叫号码",
        "called number",
    ),
    field(
        "custNumberAttribution",
        "String",
        Holds::Text,
        "客户号码归属地",
        "region of the customer's number",
    ),
    field(
        "custIspName",
        "String",
        Holds::Text,
        "客户号码运营商名称",
        "carrier of the customer's number",
    ),
    field(
        "callWaitDuration",
        "Integer",
        Holds::Seconds,
        "呼叫等待时长及振铃时间(单位秒)",
        "waiting and ringing time in seconds",
    ),
    field(
        "queueWaitDuration",
        "Integer",
        Holds::Seconds,
        "排队等待时长",
        "time in the queue; the contract names no unit",
    ),
    field(
        "parkingWaitDuration",
        "Integer",
        Holds::Seconds,
        "振铃时间(单位秒)",
        "ringing time in seconds; in the contract's example it is a moment in epoch seconds",
    ),
    field(
        "digitUrl",
        "String",
        Holds::Text,
        "IVR轨迹",
        "path through the IVR, its steps joined by >; not a URL",
    ),
    field("staffId", "Long", Holds::BigNumber, "客服ID", "agent id"),
    field(
        "staffName",
        "String",
        Holds::Text,
        "客服名称",
        "agent's name",
    ),
    field(
        "skillSetId",
        "String",
        Holds::Text,
        "技能组ID",
        "skill group id",
    ),
    field(
        "communicateDuration",
        "Integer",
        Holds::Seconds,
        "通话时长",
        "talking time; the contract names no unit",
    ),
    field(
        "communicateSource",
        "Integer",
        numbers(SOURCES),
        "通话来源",
        "source of the call",
    ),
    field(
        "communicateBeginTime",
        "Datetime",
        Holds::Moment,
        "通话开始时间",
        "when the call began",
    ),
    field(
        "communicateEndTime",
        "Datetime",
        Holds::Moment,
        "通话结束时间",
        "when the call ended",
    ),
    field(
        "createTime",
        "Datetime",
        Holds::Moment,
        "创建时间",
        "when the record was made",
    ),
    field(
        "customerName",
        "String",
        Holds::Text,
        "客户名称",
        "customer's name",
    ),
    field(
        "speechCallResult",
        "Integer",
        numbers(CALL_RESULTS),
        "呼叫中心自定义通话结果",
        "the call centre's own result of the call",
    ),
    field(
        "evaluationScore",
        "Integer",
        numbers(SCORES),
        "满意度评价结果",
        "rating by the customer; the contract's example has -1",
    ),
    field(
        "expansionFields",
        "String",
        Holds::Expansion,
        "扩展字段",
        "custom fields, see below",
    ),
    field(
        "acw",
        "Integer",
        Holds::Seconds,
        "话后时间(单位:秒)",
        "after-call work in seconds",
    ),
    field(
        "transferId",
        "String",
        Holds::Text,
        "转接id,非0时才是转接id",
        "transfer id; 0 means no transfer",
    ),
    field(
        "handupDirection",
        "Integer",
        numbers(HANGUP_CODES),
        "挂机方向",
        "who hung up; the key is spelt so",
    ),
    field(
        "hangUpDirectionType",
        "String",
        Holds::Choices(JsonType::String, HANGUP_WORDS),
        "挂机方向",
        "who hung up",
    ),
    field(
        "agentAnswerTime",
        "Datetime",
        Holds::Moment,
        "坐席应答时间",
        "when the agent answered",
    ),
    field(
        "externalCustomerId",
        "String",
        Holds::Text,
        "外部-客户id,只有外呼任务能有数据",
        "external customer id; outbound tasks only",
    ),
    field(
        "externalData",
        "String",
        Holds::Text,
        "外部-透传数据,只有外呼任务能有数据",
        "external data passed through; outbound tasks only",
    ),
    field(
        "taskId",
        "Long",
        Holds::BigNumber,
        "外呼任务id,只有外呼任务能有数据",
        "outbound task id; outbound tasks only",
    ),
    unlisted(
        "agentLoginType",
        Holds::Text,
        "坐席登录类型",
        "how the agent is logged in",
    ),
    unlisted(
        "callResult",
        Holds::Number,
        "通话结果",
        "result of the call; its values are not listed",
    ),
    unlisted("customerId", Holds::Text, "客户ID", "customer id"),
    unlisted(
        "noteStatus",
        Holds::Number,
        "备注状态",
        "state of the note; its values are not listed",
    ),
];

/// The members of an item of `expansionFields`.
pub const EXPANSION: &[Field] = &[
    field(
        "type",
        "Integer",
        numbers(ITEM_TYPES),
        "类型",
        "type of the custom field",
    ),
    field("name", "String", Holds::Text, "自定义字段名", "its name"),
    field(
        "required",
        "boolean",
        Holds::Truth,
        "是否必填",
        "whether it must be filled in",
    ),
    field(
        "otherRules",
        "String",
        Holds::Rules,
        "规则",
        "its rules, see below",
    ),
    unlisted("id", Holds::Number, "自定义字段ID", "its id"),
    unlisted("value", Holds::TextOrArray, "值", "its value"),
];

/// The members of `otherRules`.
pub const RULES: &[Field] = &[
    field(
        "fieldInnerType",
        "Integer",
        numbers(INNER_TYPES),
        "下拉框或选框 / 数字 / 日期和时间的细分类型",
        "kind within drop-down list or check boxes / number / date and time",
    ),
    field(
        "data",
        "object",
        Holds::Anything,
        "自定义选项等",
        "choices and the like",
    ),
];

/// The field with this key in one of the lists.
#[must_use]
pub fn find(list: &'static [Field], name: &str) -> Option<&'static Field> {
    list.iter().find(|field| field.name == name)
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
        for (table, list) in tables.iter().zip([FIELDS, EXPANSION, RULES]) {
            let listed = list.iter().filter(|field| field.declared.is_some());
            for (row, field) in table.iter().zip(listed.clone()) {
                assert_eq!((row.0, Some(row.1)), (field.name, field.declared));
                if !matches!(field.holds, Holds::Choices(..) | Holds::Anything) {
                    assert_eq!(row.2, field.zh, "{}", field.name);
                }
                if let Holds::Choices(_, choices) = field.holds {
                    for choice in choices.iter().filter(|_| field.name != "fieldInnerType") {
                        let told = row.2.contains(choice.value) && row.2.contains(choice.zh);
                        assert!(told, "{} {}", field.name, choice.value);
                    }
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
        let beside = FIELDS.iter().filter(|field| field.declared.is_none());
        let beside: Vec<&str> = beside.map(|field| field.name).collect();
        assert_eq!(
            beside,
            ["agentLoginType", "callResult", "customerId", "noteStatus"]
        );
        for key in &keys {
            let field = find(FIELDS, key).expect("every key of the example is listed");
            let raw = data[*key].to_string();
            assert!(
                field.holds.json().contains(&JsonType::of(&raw)),
                "{key}: {raw}"
            );
        }
        let absent = FIELDS.iter().filter(|field| !keys.contains(field.name));
        assert_eq!(absent.count(), 7);
    }
}
