//! What became of a record, from all its places: one conclusion for each source
//! record, because an id may be published twice.

use super::attempts::LoggedAttempt;
use super::found::FoundRecord;
use super::group_state::PlaceState;
use crate::model::named_enum::named_enum;
use crate::model::position::Topic;
use crate::model::time::UnixMillis;
use std::collections::BTreeMap;
use std::time::Duration;

/// Copies are written by several clocks. A copy that is later than a dead letter by
/// more than this was made from the dead letter.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

/// A place of a record, with what the group's committed state says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundPlace {
    pub record: FoundRecord,
    /// `None` among the dead letters, which no group reads.
    pub state: Option<PlaceState>,
    /// Since when there are offset maps of the partition.
    pub maps_since: Option<UnixMillis>,
}

named_enum! {
    /// What became of a record.
    pub enum Fate {
        /// The attempt log has the success.
        Delivered = "delivered",
        /// Finished, and there is no copy. Kafka does not tell which of the two.
        DeliveredOrSkipped = "delivered_or_skipped",
        /// In the source topic, before its first attempt.
        Untried = "untried",
        /// In a delay topic.
        Delayed = "delayed",
        InProgress = "in_progress",
        DeadLetter = "dead_letter",
        Unknown = "unknown",
        /// No topic has a record with this id.
        NotFound = "not_found",
    }
}

/// A conclusion in plain words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conclusion {
    pub fate: Fate,
    pub text: String,
}

/// Returns what became of the records with one id. `places` are all its places.
#[must_use]
pub fn conclude(
    places: &[FoundPlace],
    attempts: &[LoggedAttempt],
    now: UnixMillis,
) -> Vec<Conclusion> {
    let mut chains: BTreeMap<Option<String>, Vec<&FoundPlace>> = BTreeMap::new();
    for place in places {
        chains.entry(place.record.origin()).or_default().push(place);
    }
    let is_sole = chains.len() == 1;
    let chains = chains.into_iter();
    chains
        .map(|(origin, places)| {
            // Without an origin in the log, an attempt belongs to the only record.
            let mut own = attempts.iter().filter(|attempt| match &attempt.origin {
                Some(logged) => Some(logged) == origin.as_ref(),
                None => is_sole,
            });
            conclude_chain(&places, own.rfind(|attempt| attempt.is_delivered()), now)
        })
        .collect()
}

fn conclude_chain(
    places: &[&FoundPlace],
    delivered: Option<&LoggedAttempt>,
    now: UnixMillis,
) -> Conclusion {
    let with = |state| {
        let mut all = places.iter().filter(move |p| p.state == Some(state));
        all.next_back()
    };
    if let Some(place) = with(PlaceState::InProgress) {
        let place = &place.record.place;
        return Conclusion {
            fate: Fate::InProgress,
            text: format!("an attempt is in progress: the group has reserved {place}"),
        };
    }
    let mut waiting = places
        .iter()
        .filter(|p| p.state == Some(PlaceState::Waiting));
    if let Some(place) = waiting.next_back() {
        return wait(&place.record, now);
    }
    if let Some(letter) = last_dead_letter(places) {
        return dead_letter(letter);
    }
    if let Some(attempt) = delivered {
        return Conclusion {
            fate: Fate::Delivered,
            text: delivery(attempt),
        };
    }
    match places
        .iter()
        .rfind(|p| p.state == Some(PlaceState::Finished))
    {
        Some(place) => finished(place),
        None => Conclusion {
            fate: Fate::Unknown,
            text: "cannot be told: the group's committed state belongs to an earlier topic of this name"
                .to_owned(),
        },
    }
}

fn wait(record: &FoundRecord, now: UnixMillis) -> Conclusion {
    let topic = &record.place.topic;
    let Some(due) = record.due() else {
        return Conclusion {
            fate: Fate::Untried,
            text: format!("waiting in {topic}: no attempt was started"),
        };
    };
    let verb = if due > now { "due" } else { "was due" };
    Conclusion {
        fate: Fate::Delayed,
        text: format!(
            "waiting in {topic}, {verb} {}{}",
            due.rfc3339(),
            after(record)
        ),
    }
}

/// Returns the attempts so far and the last error in words.
fn after(record: &FoundRecord) -> String {
    let mut text = match record.marks.attempts_made {
        None => return String::new(),
        Some(1) => "; 1 attempt made".to_owned(),
        Some(made) => format!("; {made} attempts made"),
    };
    if let Some(last) = last_error(record) {
        text += &format!(", last {last}");
    }
    text
}

/// Returns the class of the last error, with the status where there is one.
#[must_use]
pub fn last_error(record: &FoundRecord) -> Option<String> {
    let class = record.marks.error?.name();
    Some(match record.marks.status {
        Some(status) => format!("{class} {status}"),
        None => class.to_owned(),
    })
}

/// Returns the latest dead letter, unless a job has copied it later.
fn last_dead_letter<'a>(places: &[&'a FoundPlace]) -> Option<&'a FoundRecord> {
    let all = || places.iter().map(|place| &place.record);
    let letters = all().filter(|record| record.topic == Topic::DeadLetter);
    let letter = letters.max_by_key(|record| record.timestamp)?;
    let place = letter.place.to_string();
    let later = letter.timestamp.plus(CLOCKS_AGREE);
    let copied = all().any(|record| {
        record.marks.replayed_from.as_ref() == Some(&place) || record.timestamp > later
    });
    (!copied).then_some(letter)
}

fn dead_letter(letter: &FoundRecord) -> Conclusion {
    let reason = letter.marks.reason.map_or("-", |reason| reason.name());
    Conclusion {
        fate: Fate::DeadLetter,
        text: format!(
            "dead letter since {}: {reason}{}",
            letter.timestamp.rfc3339(),
            after(letter)
        ),
    }
}

fn delivery(attempt: &LoggedAttempt) -> String {
    let mut text = "delivered".to_owned();
    if let Some(number) = attempt.attempt {
        text += &format!(" by attempt {number}");
    }
    if let Some(at) = &attempt.started_at {
        text += &format!(", started {at}");
    }
    if let Some(status) = attempt.status {
        text += &format!(", status {status}");
    }
    text
}

fn finished(place: &FoundPlace) -> Conclusion {
    let record = &place.record;
    let mut text = match record.topic.delay() {
        None => "delivered or skipped: finished at the source, no copy in a delay topic, no dead \
                 letter"
            .to_owned(),
        Some(_) => format!(
            "delivered or skipped: finished in {}, no later copy, no dead letter{}",
            record.place.topic,
            after(record)
        ),
    };
    match place.maps_since {
        Some(since) if record.timestamp < since => {
            text += &format!(
                " (not certain: the group's offset maps start at {}, what happened before cannot be told)",
                since.rfc3339()
            );
        }
        Some(_) => {}
        None => text += " (not certain: the group has no offset map there, only an offset)",
    }
    Conclusion {
        fate: Fate::DeliveredOrSkipped,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::ErrorClass;
    use crate::model::disposition::DeadLetterReason;
    use crate::model::headers::Marks;
    use PlaceState::{Finished, InProgress, Unknown, Waiting};

    const NOW: UnixMillis = UnixMillis(100_000);

    /// Returns a place whose record was written at `at`, with the source at `s/0/1`.
    fn place(text: &str, at: i64, state: Option<PlaceState>) -> FoundPlace {
        let place: crate::search::RecordPlace = text.parse().expect("a position");
        let topic = match &*place.topic {
            "s" => Topic::Source,
            "s.dead-letter" => Topic::DeadLetter,
            _ => Topic::Delay("10s".parse().expect("a delay")),
        };
        let value = br#"{"id":"a","tenantId":"t"}"#;
        let mut record = FoundRecord::read(place, topic, UnixMillis(at), Some(value), &[]);
        if topic != Topic::Source {
            record.marks = Marks {
                origin: Some("s/0/1".to_owned()),
                attempts_made: Some(2),
                error: Some(ErrorClass::Http5xx),
                status: Some(503),
                ..Marks::default()
            };
        }
        FoundPlace {
            record,
            state,
            maps_since: Some(UnixMillis(0)),
        }
    }

    #[track_caller]
    fn check(places: &[FoundPlace], fate: Fate, said: &str) {
        let found = conclude(places, &[], NOW);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].fate, fate, "{found:?}");
        assert!(found[0].text.contains(said), "{found:?}");
    }

    #[test]
    fn a_record_has_the_fate_of_its_last_place() {
        let source = |state| place("s/0/1", 1_000, Some(state));
        let delayed = |at, state| place("s.delay.10s/0/1", at, Some(state));
        let mut letter = place("s.dead-letter/0/1", 20_000, None);
        letter.record.marks.reason = Some(DeadLetterReason::AttemptsExhausted);
        check(&[source(Waiting)], Fate::Untried, "no attempt was started");
        check(&[source(InProgress)], Fate::InProgress, "reserved s/0/1");
        check(
            &[source(Finished)],
            Fate::DeliveredOrSkipped,
            "at the source",
        );
        check(&[source(Unknown)], Fate::Unknown, "earlier topic");
        let early = "was due 1970-01-01T00:00:12.000Z; 2 attempts made, last http_5xx 503";
        check(
            &[source(Finished), delayed(2_000, Waiting)],
            Fate::Delayed,
            early,
        );
        check(
            &[delayed(95_000, Waiting)],
            Fate::Delayed,
            ", due 1970-01-01T00:01:45",
        );
        let finished = [source(Finished), delayed(2_000, Finished)];
        check(
            &finished,
            Fate::DeliveredOrSkipped,
            "finished in s.delay.10s",
        );
        let dead = [source(Finished), delayed(20_500, Finished), letter.clone()];
        check(
            &dead,
            Fate::DeadLetter,
            "attempts_exhausted; 2 attempts made",
        );
        let again = [letter.clone(), delayed(30_000, Waiting)];
        check(&again, Fate::Delayed, "waiting in s.delay.10s");
        let mut copy = delayed(20_500, Finished);
        copy.record.marks.replayed_from = Some("s.dead-letter/0/1".to_owned());
        check(&[letter, copy], Fate::DeliveredOrSkipped, "no later copy");
    }

    #[test]
    fn what_was_before_the_maps_is_not_certain() {
        let mut old = place("s/0/1", 1_000, Some(Finished));
        old.maps_since = Some(UnixMillis(5_000));
        check(
            &[old.clone()],
            Fate::DeliveredOrSkipped,
            "not certain: the group's offset maps start",
        );
        old.maps_since = None;
        check(
            &[old],
            Fate::DeliveredOrSkipped,
            "not certain: the group has no offset map",
        );
    }

    #[test]
    fn each_publication_has_its_own_fate_and_the_log_tells_a_delivery() {
        let places = [
            place("s/0/1", 1_000, Some(Finished)),
            place("s/0/9", 2_000, Some(Waiting)),
        ];
        let logged = r#"{"attempt":1,"outcome":"delivered","status":200,"origin":"s/0/1"}"#;
        let logged = LoggedAttempt::read(logged.as_bytes()).expect("an object");
        let found = conclude(&places, &[logged], NOW);
        let fates: Vec<Fate> = found.iter().map(|conclusion| conclusion.fate).collect();
        assert_eq!(fates, [Fate::Delivered, Fate::Untried]);
        assert_eq!(found[0].text, "delivered by attempt 1, status 200");
    }
}
