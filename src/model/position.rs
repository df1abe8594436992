//! Where a record lives: topic, partition and offset. `Offset` is a record's
//! own place, `NextOffset` the place after it, which is what Kafka commits;
//! [`Offset::next`] is the only +1 in the program.

use super::time::Delay;
use std::fmt;

/// A topic by its part in the flow; the name is made by [`TopicNames`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Topic {
    /// Where the call platform publishes.
    Source,
    /// Where records wait for this delay.
    Delay(Delay),
    /// Where records end that cannot be delivered.
    DeadLetter,
}

impl Topic {
    /// The delay that records of this topic wait for, if it is a delay topic.
    #[must_use]
    pub fn delay(self) -> Option<Delay> {
        match self {
            Self::Delay(delay) => Some(delay),
            Self::Source | Self::DeadLetter => None,
        }
    }
}

/// The names of the topics, all made from the source topic's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicNames {
    source: String,
}

impl TopicNames {
    /// Names around this source topic.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
        }
    }

    /// The name of a topic: `<source>`, `<source>.delay.<delay>` or
    /// `<source>.dead-letter`.
    #[must_use]
    pub fn name(&self, topic: Topic) -> String {
        match topic {
            Topic::Source => self.source.clone(),
            Topic::Delay(delay) => format!("{}.delay.{delay}", self.source),
            Topic::DeadLetter => format!("{}.dead-letter", self.source),
        }
    }

    /// The topic with this name, if it is one of ours. A delay that is not in
    /// its one spelling (`.delay.60s`) is not ours.
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
    /// The topic.
    pub topic: Topic,
    /// Kafka's number of the partition.
    pub number: i32,
}

/// The offset of a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub i64);

impl Offset {
    /// The place after this record.
    #[must_use]
    pub const fn next(self) -> NextOffset {
        NextOffset(self.0 + 1)
    }
}

/// The offset at which reading goes on: all before it has been seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NextOffset(pub i64);

impl NextOffset {
    /// Whether a record lies before this place.
    #[must_use]
    pub const fn is_past(self, offset: Offset) -> bool {
        offset.0 < self.0
    }

    /// The place just before this record.
    #[must_use]
    pub const fn at(offset: Offset) -> Self {
        Self(offset.0)
    }
}

/// A record's residence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The offset in it.
    pub offset: Offset,
}

/// The identity that Kafka gave a topic when it was made; a topic made again
/// under the same name has another.
///
/// Source: KIP-516. Kept as its base64 text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TopicId(pub String);

/// Counts the rebalance callbacks of this process, across consumers: what was
/// decided under an older one must not touch what a newer one assigned (L8).
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
    fn a_topic_has_one_name_and_a_name_one_topic() {
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
