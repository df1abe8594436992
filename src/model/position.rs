//! The position of a record: topic, partition and offset. `Offset` is the place of
//! a record. `NextOffset` is the place after it, which Kafka commits.
//! [`Offset::next`] must stay the only +1 in the program. Pure values.

use super::time::Delay;
use std::fmt;

/// A topic by its role; [`TopicNames`] makes its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Topic {
    /// The topic to which the call platform publishes.
    Source,
    /// The topic in which records wait for this delay.
    Delay(Delay),
    /// The topic of records that cannot be delivered.
    DeadLetter,
}

impl Topic {
    /// Returns the partition of this topic with this number.
    #[must_use]
    pub const fn partition(self, number: i32) -> Partition {
        Partition {
            topic: self,
            number,
        }
    }

    /// Returns the delay of a delay topic.
    #[must_use]
    pub fn delay(self) -> Option<Delay> {
        match self {
            Self::Delay(delay) => Some(delay),
            Self::Source | Self::DeadLetter => None,
        }
    }
}

/// The names of all topics, which are made from the name of the source topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicNames {
    source: String,
}

impl TopicNames {
    /// Returns the names that belong to this source topic.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
        }
    }

    /// Returns the name of a topic: `<source>`, `<source>.delay.<delay>` or
    /// `<source>.dead-letter`.
    #[must_use]
    pub fn name(&self, topic: Topic) -> String {
        match topic {
            Topic::Source => self.source.clone(),
            Topic::Delay(delay) => format!("{}.delay.{delay}", self.source),
            Topic::DeadLetter => format!("{}.dead-letter", self.source),
        }
    }

    /// Returns the name of the topic of the attempt log. No [`Topic`] has it: records
    /// never move there.
    #[must_use]
    pub fn attempts(&self) -> String {
        format!("{}.attempts", self.source)
    }

    /// Returns the topic with this name, if it belongs to this source topic. A delay
    /// with another spelling than its own (`.delay.60s` for `1m`) does not belong.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Topic> {
        let rest = name.strip_prefix(self.source.as_str())?;
        match rest {
            "" => Some(Topic::Source),
            ".dead-letter" => Some(Topic::DeadLetter),
            _ => {
                let text = rest.strip_prefix(".delay.")?;
                let delay: Delay = text.parse().ok()?;
                (delay.to_string() == text).then_some(Topic::Delay(delay))
            }
        }
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition {
    pub topic: Topic,
    pub number: i32,
}

impl Partition {
    /// Returns the position of a record in this partition.
    #[must_use]
    pub const fn at(self, offset: Offset) -> Position {
        Position {
            partition: self,
            offset,
        }
    }
}

/// The offset of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub i64);

impl Offset {
    /// Returns the place after this record.
    #[must_use]
    pub const fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

/// The offset at which reading continues: every record before it was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NextOffset(pub i64);

impl NextOffset {
    /// Returns whether a record lies before this place.
    #[must_use]
    pub const fn is_past(self, offset: Offset) -> bool {
        offset.0 < self.0
    }

    /// Returns the place just before this record.
    #[must_use]
    pub const fn at(offset: Offset) -> Self {
        Self(offset.0)
    }
}

/// The residence of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    pub partition: Partition,
    pub offset: Offset,
}

/// The identity of a topic, as base64 text. A topic that is deleted and created again
/// under the same name has another identity.
///
/// Source: KIP-516.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TopicId(pub String);

/// The number of a rebalance callback of this process, over all its consumers. A
/// decision of an older generation must not change partitions of a newer one (L8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_one_name_and_a_name_has_one_topic() {
        let names = TopicNames::new("call-ended");
        for (topic, name) in [
            (Topic::Source, "call-ended"),
            (Topic::DeadLetter, "call-ended.dead-letter"),
            (
                Topic::Delay("90s".parse().expect("valid")),
                "call-ended.delay.90s",
            ),
        ] {
            assert_eq!(names.name(topic), name);
            assert_eq!(names.topic(name), Some(topic));
        }
        for name in [
            "call-ended2",
            "call-ended.delay.60s",
            "call-ended.delay.",
            "other",
            "call-ended.delay.1d",
        ] {
            assert_eq!(names.topic(name), None, "{name}");
        }
    }
}
