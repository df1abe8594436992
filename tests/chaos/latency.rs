//! The time from publication to the first POST, of healthy tenants' records, beside
//! each kind of fault and without any.

use super::ledger::{Fault, FaultKind};
use super::receiver::ReceivedPost;
use super::records;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// A fault shows in records that were published up to this time after its end.
const AFTER: Duration = Duration::from_secs(2);

/// Returns a line for each kind of fault. Records of the usual tenants count, except of
/// those that hang in this run.
pub fn lines(
    posts: &HashMap<u64, Vec<ReceivedPost>>,
    published_at: impl Fn(u64) -> Instant,
    faults: &[Fault],
) -> Vec<String> {
    let mut times: BTreeMap<Option<FaultKind>, Vec<Duration>> = BTreeMap::new();
    let hang: HashSet<u64> = faults.iter().filter_map(|fault| fault.tenant).collect();
    let is_healthy =
        |number: u64| records::is_usual(number) && !hang.contains(&(number % records::TENANTS));
    for (number, posts) in posts.iter().filter(|(number, _)| is_healthy(**number)) {
        let Some(first) = posts.first().filter(|first| first.attempt == 1) else {
            continue;
        };
        let at = published_at(*number);
        let took = first.at.saturating_duration_since(at);
        let beside = faults
            .iter()
            .filter(|f| (f.at..=f.over + AFTER).contains(&at));
        let mut kinds: Vec<Option<FaultKind>> = beside.map(|f| Some(f.kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() {
            kinds.push(None);
        }
        for kind in kinds {
            times.entry(kind).or_default().push(took);
        }
    }
    let lines = times.into_iter().map(|(kind, mut times)| {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
        let name = kind.map_or("without a fault".to_owned(), |kind| format!("{kind:?}"));
        let (p50, p99) = (at(50), at(99));
        format!(
            "{name:<20}{:>8} records, p50 {p50} ms, p99 {p99} ms",
            times.len()
        )
    });
    lines.collect()
}
