//! Questions of the reader thread about logs: where they start and end. They are asked
//! by leader, so that only the partitions of a silent leader wait. Decides nothing.

use super::context::Consumer;
use crate::kafka::call_monitor::CallTimer;
use crate::kafka::client::brokers::{self, LogEnd};
use crate::kafka::client::convert;
use crate::kafka::client::ffi::Element;
use crate::kafka::leaders::Ask;
use crate::kafka::session_state::SessionState;
use crate::model::message::LogBounds;
use crate::model::position::{NextOffset, Partition};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

/// The limit of one request to all leaders.
const REQUEST_MAX: Duration = Duration::from_secs(1);

/// A committed offset and its metadata, if there is a commit.
pub type Committed = Option<(NextOffset, String)>;

/// The questions of a session.
pub struct LogQuestions<'a> {
    pub state: &'a SessionState,
    pub timer: &'a CallTimer,
}

impl LogQuestions<'_> {
    /// Returns the high watermarks. They are asked only where a committed offset lies
    /// beyond the last stable offset; elsewhere that one stands for them. Leaves out
    /// partitions without an answer.
    pub fn high_watermarks(
        &self,
        consumer: &Consumer,
        committed: &BTreeMap<Partition, Committed>,
        bounds: &[LogBounds],
    ) -> BTreeMap<Partition, NextOffset> {
        let is_beyond = |bound: &&LogBounds| {
            let found = committed.get(&bound.partition).and_then(Option::as_ref);
            found.is_some_and(|(base, _)| *base > bound.end)
        };
        let (beyond, within): (Vec<&LogBounds>, Vec<&LogBounds>) =
            bounds.iter().partition(is_beyond);
        let mut all: BTreeMap<Partition, NextOffset> =
            within.iter().map(|b| (b.partition, b.end)).collect();
        if beyond.is_empty() {
            return all;
        }
        let beyond: Vec<Partition> = beyond.iter().map(|bound| bound.partition).collect();
        let mut list = convert::list(&self.state.settings.topics, &beyond);
        list.set_all_offsets(Offset::End).expect("a valid offset");
        self.timer.start("high watermarks", REQUEST_MAX);
        let lists = [list];
        for answer in brokers::list_offsets(consumer, &lists, LogEnd::HighWatermark, REQUEST_MAX) {
            all.extend(self.offsets(&answer));
        }
        all
    }

    /// Adds the high watermarks that the consumer's fetches have seen. All partitions are
    /// assigned.
    pub fn add_fetched_ends(&self, consumer: &Consumer, bounds: &mut [LogBounds]) {
        for bound in bounds {
            let name = self.state.settings.topics.name(bound.partition.topic);
            let fetched = brokers::fetched_end(consumer, &name, bound.partition.number);
            let fetched = fetched.map_or(bound.end, NextOffset);
            bound.high_watermark = bound.high_watermark.max(fetched);
        }
    }

    /// Returns the offsets of an answer.
    fn offsets(&self, answer: &[Element]) -> BTreeMap<Partition, NextOffset> {
        let good = answer.iter().filter(|element| element.error.is_none());
        let offset = |element: &Element| {
            let partition = convert::partition(&self.state.settings.topics, element)?;
            Some((partition, NextOffset(element.offset)))
        };
        good.filter_map(offset).collect()
    }

    /// Reads where logs start and end, with two requests to each leader at once. The end
    /// is the last stable offset. Notes which leaders have answered. Returns `None` when
    /// none has. A leader that answers with error codes only gives no bounds.
    pub fn bounds(&self, consumer: &Consumer, asks: &[Ask]) -> Option<Vec<LogBounds>> {
        let names = &self.state.settings.topics;
        let list = |ask: &Ask, which| {
            let mut list = convert::list(names, &ask.partitions);
            list.set_all_offsets(which).map(|()| list)
        };
        let lists = asks.iter().flat_map(|ask| {
            let ends = [Offset::Beginning, Offset::End];
            ends.map(|which| list(ask, which).expect("both are valid offsets"))
        });
        let lists: Vec<TopicPartitionList> = lists.collect();
        self.timer.start("log bounds", REQUEST_MAX);
        let answers = brokers::list_offsets(consumer, &lists, LogEnd::Stable, REQUEST_MAX);
        let now = self.state.now();
        let mut bounds = None;
        for (ask, answers) in asks.iter().zip(answers.chunks(2)) {
            let answered = answers.iter().any(|answer| !answer.is_empty());
            self.state.leaders().note(ask.leader, answered, now);
            if answered {
                let bounds = bounds.get_or_insert_with(Vec::new);
                bounds.extend(self.bounds_of(answers));
            } else if let Some(held_back) = self.state.sessions.throttle.pass("log bounds") {
                let broker = ask.leader.map(|id| id.0);
                tracing::info!(broker, held_back, "log bounds not read");
            }
        }
        bounds
    }

    /// Returns the bounds of partitions with a start and an end among these answers.
    fn bounds_of(&self, answers: &[Vec<Element>]) -> Vec<LogBounds> {
        let [starts, ends] = answers else {
            return Vec::new();
        };
        let ends = self.offsets(ends);
        let both = self
            .offsets(starts)
            .into_iter()
            .filter_map(|(partition, start)| {
                let end = *ends.get(&partition)?;
                Some(LogBounds {
                    partition,
                    start,
                    end,
                    high_watermark: end,
                })
            });
        both.collect()
    }
}
