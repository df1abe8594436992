//! Our clock beside the broker's: each moved record tells when we sent it and
//! when the broker appended it. What lies between is skew and the time that the
//! write took, which a slow moment makes seconds long; so the record of a span
//! that was written fastest counts.

use crate::model::time::UnixMillis;
use std::time::Duration;

/// So long a span.
const SPAN: Duration = Duration::from_secs(10);

/// The records of a span.
#[derive(Default)]
pub struct Skew {
    span: Option<(UnixMillis, i64)>,
}

impl Skew {
    /// Takes our time minus the broker's, in ms, of one record. Returns the skew
    /// of the span that ends with it, if one does.
    pub fn observe(&mut self, now: UnixMillis, ms: i64) -> Option<i64> {
        let (since, fastest) = *self.span.get_or_insert((now, ms));
        let fastest = fastest.max(ms);
        let over = now.since(since) >= SPAN;
        self.span = (!over).then_some((since, fastest));
        over.then_some(fastest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_writes_are_no_skew_and_a_wrong_clock_is() {
        for (skew, wrong) in [(0, -5), (-3_000, -3_005), (2_000, 1_995)] {
            let mut told = Skew::default();
            let took = [1_800, 5, 900, 1_200, 1_100];
            let mut seconds = (0..).step_by(3);
            let heard = took.map(|took| {
                let now = UnixMillis(seconds.next().expect("endless") * 1_000);
                told.observe(now, skew - took)
            });
            assert_eq!(heard, [None, None, None, None, Some(wrong)]);
            assert_eq!(told.observe(UnixMillis(15_000), skew - 700), None);
        }
    }
}
