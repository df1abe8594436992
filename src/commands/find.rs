//! `ringback find`: all places of records, by their ids, and what became of them.
//! Reads only: no offset changes. Runs on the main thread.

mod print;

use super::reading::{self, filters, pass};
use super::{Exit, fault, refuse, warn};
use crate::cli::output::OutputFormat;
use crate::cli::reading::FindArgs;
use crate::clock::Clock;
use crate::config::mistake::{Mistake, Mistakes, Warning, both};
use crate::config::moments;
use crate::kafka::scan::{PartitionRange, Query, ScanError, ScannedRecord, Start, TopicPartition};
use crate::kafka::settings::KafkaSettings;
use crate::model::headers::Marks;
use crate::model::position::{Topic, TopicNames};
use crate::model::time::UnixMillis;
use crate::search::attempts::LoggedAttempt;
use crate::search::conclusion::{FoundPlace, conclude};
use crate::search::group_state::GroupState;
use crate::search::{Filter, FoundRecord, Selection};
use print::{Answer, Printed};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

/// The most cut dead letters that are kept (L5); each has some 500 bytes.
const CUT_MAX: usize = 100_000;

/// Finds the records.
#[must_use]
pub fn run(args: &FindArgs) -> Exit {
    let clock = Clock::start();
    let settings = reading::settings(&args.settings);
    let (settings, plan) = match both(settings, plan(args, clock.now())) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    match find(&settings, plan, &clock) {
        Ok(exit) => exit,
        Err(error) => fault(&error),
    }
}

/// What is searched.
struct FindPlan {
    /// In the order of the command line, each once.
    ids: Vec<String>,
    filter: Filter,
    since: UnixMillis,
    format: OutputFormat,
}

fn plan(args: &FindArgs, now: UnixMillis) -> Result<FindPlan, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let ids: Result<Vec<String>, String> = args.ids.iter().map(|id| filters::id(id)).collect();
    let ids = mistakes.take("ID", ids);
    let since = mistakes.take("--since", moments::past_moment(&args.since, now));
    let tenants = args.tenant.iter().map(|id| filters::tenant(id));
    let tenants = mistakes.take("--tenant", tenants.collect::<Result<_, _>>());
    mistakes.unless_any(|| {
        let mut ids = ids?;
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        let filter = Filter {
            ids: seen,
            tenants: tenants?,
            ..Filter::default()
        };
        Some(FindPlan {
            ids,
            filter,
            since: since?,
            format: args.output.output,
        })
    })
}

fn find(settings: &KafkaSettings, plan: FindPlan, clock: &Clock) -> Result<Exit, ScanError> {
    let topics = SearchedTopics::ask(settings, plan.since)?;
    let mut hits = Hits::new(&settings.topics, plan.filter, &topics);
    pass::pass(settings, topics.ranges.clone(), |_, record| {
        hits.take(record);
        ControlFlow::Continue(())
    })?;
    let now = clock.now();
    let mut printed = Printed::new(plan.format, plan.since, &settings.topics);
    for id in plan.ids {
        let (places, attempts) = hits.of(&id, &topics);
        let conclusions = conclude(&places, &attempts, now);
        printed.answer(&Answer {
            id,
            places,
            attempts,
            conclusions,
        });
    }
    Ok(printed.finish())
}

/// The topics to read, and what the group had committed before their ends were read.
/// In this order, a record that is finished by then has its copy before the ends.
struct SearchedTopics {
    ranges: Vec<PartitionRange>,
    states: BTreeMap<TopicPartition, GroupState>,
    attempts: String,
}

impl SearchedTopics {
    fn ask(settings: &KafkaSettings, since: UnixMillis) -> Result<Self, ScanError> {
        let names = &settings.topics;
        let query = Query::connect(settings)?;
        let attempts = names.attempts();
        let existing = query.topics()?;
        let has_attempts = existing.contains(&attempts);
        let delays = existing.into_iter().filter(|name| {
            let topic = names.topic(name);
            topic.is_some_and(|topic| topic.delay().is_some())
        });
        let mut consumed = vec![names.name(Topic::Source)];
        consumed.extend(delays);
        if consumed.len() == 1 {
            // Every service has a delay topic. Kafka hides what a user may not see.
            warn(&[Warning(format!(
                "no delay topic of '{}' is visible: records in delay topics are not found. \
                 Allow READ on the topics '{}.delay.*'",
                consumed[0], consumed[0]
            ))]);
        }
        let states = states(&query, &consumed)?;
        let mut topics = consumed;
        topics.push(names.name(Topic::DeadLetter));
        if has_attempts {
            topics.push(attempts.clone());
        }
        Ok(Self {
            ranges: query.ranges(&topics, Start::Time(since))?,
            states,
            attempts,
        })
    }
}

fn states(
    query: &Query,
    topics: &[String],
) -> Result<BTreeMap<TopicPartition, GroupState>, ScanError> {
    let mut partitions = Vec::new();
    for topic in topics {
        partitions.extend(query.partitions(topic)?);
    }
    let committed = query.committed(&partitions)?;
    let ids = query.topic_ids(topics);
    let state = |partition: TopicPartition| {
        let committed = committed.get(&partition);
        let committed = committed.map(|found| (found.base, found.metadata.as_str()));
        let state = GroupState::read(committed, ids.get(&*partition.topic));
        (partition, state)
    };
    Ok(partitions.into_iter().map(state).collect())
}

/// What a pass has found.
struct Hits<'a> {
    names: &'a TopicNames,
    attempts_topic: &'a str,
    selection: Selection,
    places: HashMap<String, Vec<FoundRecord>>,
    attempts: HashMap<String, Vec<LoggedAttempt>>,
    /// Dead letters whose value was cut, so that it has no id, by their origin.
    cut: HashMap<String, Vec<FoundRecord>>,
    cut_count: usize,
}

impl<'a> Hits<'a> {
    fn new(names: &'a TopicNames, filter: Filter, topics: &'a SearchedTopics) -> Self {
        Self {
            names,
            attempts_topic: &topics.attempts,
            selection: Selection::new(filter),
            places: HashMap::new(),
            attempts: HashMap::new(),
            cut: HashMap::new(),
            cut_count: 0,
        }
    }

    fn take(&mut self, record: &ScannedRecord<'_>) {
        let Some(topic) = self.names.topic(&record.partition().topic) else {
            if *record.partition().topic == *self.attempts_topic {
                self.take_attempt(record);
            }
            return;
        };
        if let Some(found) = pass::select(topic, &self.selection, record) {
            let id = found.id().map(ToString::to_string).unwrap_or_default();
            self.places.entry(id).or_default().push(found);
        } else if topic == Topic::DeadLetter && self.cut_count < CUT_MAX {
            let marks = Marks::read(&record.headers());
            if let (Some(_), Some(origin)) = (marks.length, marks.origin) {
                self.cut_count += 1;
                let found = pass::found(topic, record);
                self.cut.entry(origin).or_default().push(found);
            }
        }
    }

    fn take_attempt(&mut self, record: &ScannedRecord<'_>) {
        let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
        let Some(id) = key.filter(|id| self.selection.filter().ids.contains(*id)) else {
            return;
        };
        if let Some(attempt) = record.value().and_then(LoggedAttempt::read) {
            self.attempts
                .entry(id.to_owned())
                .or_default()
                .push(attempt);
        }
    }

    /// Returns the places of an id in the order of time, and its attempts.
    fn of(&mut self, id: &str, topics: &SearchedTopics) -> (Vec<FoundPlace>, Vec<LoggedAttempt>) {
        let mut records = self.places.remove(id).unwrap_or_default();
        let origins: Vec<String> = records.iter().filter_map(FoundRecord::origin).collect();
        for origin in origins {
            records.extend(self.cut.remove(&origin).unwrap_or_default());
        }
        records.sort_by_key(|record| record.timestamp);
        let place = |record: FoundRecord| {
            let at = TopicPartition::new(&record.place.topic, record.place.partition);
            let state = topics.states.get(&at);
            FoundPlace {
                state: state.map(|state| state.state(record.place.offset)),
                maps_since: state.and_then(GroupState::maps_since),
                record,
            }
        };
        let places = records.into_iter().map(place).collect();
        (places, self.attempts.remove(id).unwrap_or_default())
    }
}
