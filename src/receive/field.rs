//! What a field of a callback is: its key, the type that the contract declares,
//! what it really holds, and its meaning. Which fields there are, `fields` lists.

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// Its type in the contract's table; none where the table does not have it.
    pub declared: Option<&'static str>,
    /// What it really holds.
    pub holds: Holds,
    /// Its meaning in the contract's words.
    pub zh: &'static str,
    /// The same in English.
    pub en: &'static str,
}

/// What a value really is, which the declared type does not always tell.
#[derive(Clone, Copy, Debug)]
pub enum Holds {
    /// A string.
    Text,
    /// A number.
    Number,
    /// A number that may be beyond 2^53.
    BigNumber,
    /// Number of seconds.
    Seconds,
    /// A number: epoch milliseconds.
    Moment,
    /// A string of digits: epoch milliseconds.
    MomentInText,
    /// `true` or `false`.
    Truth,
    /// A number or a string with meanings that the contract lists.
    Choices(JsonType, &'static [Choice]),
    /// A string that holds JSON: `{}` or an array of `EXPANSION`.
    Expansion,
    /// An object of `RULES`, although the table says String.
    Rules,
    /// A string or an array, as the item's type has it.
    TextOrArray,
    /// An object or array of any form.
    Anything,
}

/// The JSON types that a field may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JsonType {
    /// `"…"`
    String,
    /// `5`
    Number,
    /// `true`
    Boolean,
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `null`
    Null,
}

impl JsonType {
    /// The type of a JSON text, by its first character.
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

    /// In English, with its article.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Null => "null",
        }
    }
}

impl Holds {
    /// The JSON types in which it comes.
    #[must_use]
    pub const fn json(self) -> &'static [JsonType] {
        use JsonType::{Array, Boolean, Number, Object, String};
        match self {
            Self::Text | Self::MomentInText | Self::Expansion => &[String],
            Self::Number | Self::BigNumber | Self::Seconds | Self::Moment => &[Number],
            Self::Truth => &[Boolean],
            Self::Choices(String, _) => &[String],
            Self::Choices(..) => &[Number],
            Self::Rules => &[Object],
            Self::TextOrArray => &[String, Array],
            Self::Anything => &[Object, Array],
        }
    }

    /// What it really is, for the guide: Chinese, English.
    #[must_use]
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Text | Self::Choices(JsonType::String, _) => ("字符串", "string"),
            Self::Number | Self::Choices(..) => ("数字", "number"),
            Self::BigNumber => ("数字，可能大于 2^53", "number, may exceed 2^53"),
            Self::Seconds => ("数字", "number"),
            Self::Moment => ("数字，毫秒时间戳", "number, epoch milliseconds"),
            Self::MomentInText => (
                "字符串，内容为毫秒时间戳",
                "string that holds epoch milliseconds",
            ),
            Self::Truth => ("布尔值", "boolean"),
            Self::Expansion => (
                "字符串，内容为 JSON：`{}` 或数组",
                "string that holds JSON: `{}` or an array",
            ),
            Self::Rules => ("对象", "object"),
            Self::TextOrArray => ("字符串或数组", "string or array"),
            Self::Anything => ("对象或数组", "object or array"),
        }
    }
}

/// One listed value.
#[derive(Debug)]
pub struct Choice {
    /// The value, without quotes where it is a string.
    pub value: &'static str,
    /// Its meaning in the contract's words.
    pub zh: &'static str,
    /// The same in English.
    pub en: &'static str,
}
