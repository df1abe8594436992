//! The map in a commit's metadata: which offsets between the committed base
//! and the end are unfinished, and which of those are reserved.
//!
//! The text is `rb2.` and the unpadded base64url of these fields, in order:
//! - CRC-32 of the rest: 4 bytes, little endian
//! - base
//! - length and text of the topic id; length 0 where it is unknown
//! - end - base
//! - time of [`MapsSince`], and its end - base: 0 once the base is past it
//! - each unfinished offset, as its distance from the one before, shifted left by
//!   one, with the reserved mark in the lowest bit. The first is counted from the base.
//!
//! Numbers are LEB128 varints.

use crate::model::position::{NextOffset, Offset, TopicId};
use crate::model::time::UnixMillis;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The maximum size of all distances. 4,096 units hold 3,069 bytes after the prefix.
pub const ENTRY_BYTES_MAX: usize = 3_069 - FIELDS_BYTES_MAX;
/// The maximum size of CRC, base, topic id, end and [`MapsSince`].
const FIELDS_BYTES_MAX: usize = 89;

/// The longest topic id that is written; Kafka's has 22 characters.
const TOPIC_ID_BYTES_MAX: usize = 32;
const PREFIX: &str = "rb2.";
const CRC_BYTES: usize = 4;

/// Whether an attempt may have been started from an unfinished offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// No attempt was started.
    Unreserved,
    /// An attempt may have been started.
    Reserved,
}

/// Since when offset maps of a partition exist. Before `at` there was none. So a
/// delayed record before `end` that was due by `at` may have been sent already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapsSince {
    pub at: UnixMillis,
    /// The log's end at that time, or the base where that is past it.
    pub end: NextOffset,
}

/// A map as read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    /// Unlisted offsets below it are finished. No record from it on was read.
    pub end: NextOffset,
    /// Since when there are such maps of this partition.
    pub maps_since: MapsSince,
    /// The unfinished offsets, ascending.
    pub unfinished: Vec<(Offset, Mark)>,
}

/// Why a map is unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// It was made for an earlier topic of this name.
    OtherTopic,
    Unreadable(&'static str),
}

impl Unusable {
    /// Returns the reason in a few words.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::OtherTopic => "made for another topic of this name",
            Self::Unreadable(why) => why,
        }
    }
}

impl From<&'static str> for Unusable {
    fn from(why: &'static str) -> Self {
        Self::Unreadable(why)
    }
}

/// Returns the text of a map. `unfinished` ascends from `base` and lies below `end`.
#[must_use]
pub fn encode(
    base: NextOffset,
    end: NextOffset,
    topic_id: Option<&TopicId>,
    maps_since: MapsSince,
    unfinished: impl Iterator<Item = (Offset, Mark)>,
) -> String {
    let id = topic_id.map_or("", |id| id.0.as_str());
    let id = if id.len() > TOPIC_ID_BYTES_MAX {
        ""
    } else {
        id
    };
    let mut bytes = vec![0; CRC_BYTES];
    put(&mut bytes, unsigned(base.0));
    put(&mut bytes, id.len() as u64);
    bytes.extend_from_slice(id.as_bytes());
    put(&mut bytes, unsigned(end.0 - base.0));
    put(&mut bytes, unsigned(maps_since.at.0));
    put(&mut bytes, unsigned(maps_since.end.0.max(base.0) - base.0));
    let mut last = base.0;
    for (offset, mark) in unfinished {
        put(&mut bytes, number(offset.0 - last, mark));
        last = offset.0;
    }
    let crc = crc32fast::hash(&bytes[CRC_BYTES..]);
    bytes[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    let mut text = String::with_capacity(PREFIX.len() + bytes.len().div_ceil(3) * 4);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
    text
}

/// Returns the bytes of an unfinished offset at this distance from the one before.
#[must_use]
pub fn entry_bytes(distance: i64) -> usize {
    let bits = 64 - number(distance, Mark::Reserved).leading_zeros() as usize;
    bits.max(1).div_ceil(7)
}

/// Returns the most bytes that the text of a map has whose entries have these bytes.
#[must_use]
pub fn text_bytes_max(entries: usize) -> usize {
    let bytes = FIELDS_BYTES_MAX + entries;
    PREFIX.len() + bytes.div_ceil(3) * 4
}

/// Decodes a map that was committed with this base.
///
/// Errors: why it is unusable.
pub fn decode(text: &str, base: NextOffset, topic_id: Option<&TopicId>) -> Result<Map, Unusable> {
    let text = text
        .strip_prefix(PREFIX)
        .ok_or("written by another program or version")?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "not base64")?;
    let (crc, mut rest) = bytes.split_at_checked(CRC_BYTES).ok_or("too short")?;
    if crc != crc32fast::hash(rest).to_le_bytes() {
        return Err("checksum mismatch".into());
    }
    let rest = &mut rest;
    if signed(take(rest)?)? != base.0 {
        return Err("made for another offset".into());
    }
    let id_len = usize::try_from(take(rest)?).map_err(|_| "too large")?;
    let (id, after) = rest.split_at_checked(id_len).ok_or("too short")?;
    *rest = after;
    if let Some(current) = topic_id
        && !id.is_empty()
        && id != current.0.as_bytes()
    {
        return Err(Unusable::OtherTopic);
    }
    let end = base
        .0
        .checked_add(signed(take(rest)?)?)
        .ok_or("too large")?;
    let since_at = UnixMillis(signed(take(rest)?)?);
    let since_end = base.0.checked_add(signed(take(rest)?)?);
    let maps_since = MapsSince {
        at: since_at,
        end: NextOffset(since_end.ok_or("too large")?),
    };
    let mut unfinished = Vec::new();
    let mut last = base.0;
    while !rest.is_empty() {
        let entry = take(rest)?;
        let distance = signed(entry >> 1)?;
        let offset = last.checked_add(distance).ok_or("too large")?;
        if offset >= end || (distance == 0 && !unfinished.is_empty()) {
            return Err("offsets out of order".into());
        }
        let mark = if entry & 1 == 1 {
            Mark::Reserved
        } else {
            Mark::Unreserved
        };
        unfinished.push((Offset(offset), mark));
        last = offset;
    }
    Ok(Map {
        end: NextOffset(end),
        maps_since,
        unfinished,
    })
}

fn number(distance: i64, mark: Mark) -> u64 {
    unsigned(distance) << 1 | u64::from(mark == Mark::Reserved)
}

/// Offsets and their distances are never negative.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).expect("offsets ascend from a base that is not negative")
}

fn signed(value: u64) -> Result<i64, &'static str> {
    i64::try_from(value).map_err(|_| "too large")
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("too short")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("too large")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::METADATA_UNITS_MAX;
    use proptest::prelude::*;

    const LONG_AGO: MapsSince = MapsSince {
        at: UnixMillis(0),
        end: NextOffset(0),
    };

    fn marked(distances: &[(i64, bool)], base: i64) -> Vec<(Offset, Mark)> {
        let mut at = base;
        let mark = |reserved| {
            if reserved {
                Mark::Reserved
            } else {
                Mark::Unreserved
            }
        };
        let mut list: Vec<(Offset, Mark)> = Vec::new();
        for (distance, reserved) in distances {
            at += distance;
            list.push((Offset(at), mark(*reserved)));
            at += 1;
        }
        list
    }

    proptest! {
        #[test]
        fn a_map_reads_back_and_fits(base in 0_i64..1 << 40, since in 0_i64..9, distances in prop::collection::vec((0_i64..200, any::<bool>()), 0..1_000)) {
            let unfinished = marked(&distances, base);
            let end = NextOffset(unfinished.last().map_or(base, |(o, _)| o.0) + 7);
            let id = TopicId("AAAAAAAAAAAAAAAAAAAAAA".to_owned());
            let maps_since = MapsSince { at: UnixMillis(1_700_000_000_000), end: NextOffset(base + since) };
            let text = encode(NextOffset(base), end, Some(&id), maps_since, unfinished.iter().copied());
            let mut last = base;
            let bytes: usize = unfinished.iter().map(|(o, _)| { let d = o.0 - last; last = o.0; entry_bytes(d) }).sum();
            prop_assert!(bytes > ENTRY_BYTES_MAX || text.len() <= METADATA_UNITS_MAX);
            prop_assert_eq!(decode(&text, NextOffset(base), Some(&id)), Ok(Map { end, maps_since, unfinished }));
        }

        #[test]
        fn completing_a_record_never_lengthens_the_map(distances in prop::collection::vec((0_i64..20_000, any::<bool>()), 1..100), gone in any::<prop::sample::Index>()) {
            let mut unfinished = marked(&distances, 5);
            let end = NextOffset(unfinished.last().map_or(5, |(o, _)| o.0) + 1);
            let length = |list: &[(Offset, Mark)]| encode(NextOffset(5), end, None, LONG_AGO, list.iter().copied()).len();
            let before = length(&unfinished);
            unfinished.remove(gone.index(unfinished.len()));
            prop_assert!(length(&unfinished) <= before);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(text in ".{0,80}", base in 0_i64..1000) {
            prop_assert!(decode(&text, NextOffset(base), None).is_err());
        }

        #[test]
        fn one_changed_character_is_noticed(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_-]") {
            let unfinished = marked(&[(0, true), (3, false), (500, true)], 77);
            let text = encode(NextOffset(77), NextOffset(900), None, LONG_AGO, unfinished.into_iter());
            let at = at.index(text.len());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            prop_assume!(changed != text);
            prop_assert!(decode(&changed, NextOffset(77), None).is_err());
        }
    }

    #[test]
    fn a_map_for_another_offset_or_topic_is_refused() {
        let id = |text: &str| TopicId(text.to_owned());
        let text = encode(
            NextOffset(5),
            NextOffset(9),
            Some(&id("a")),
            LONG_AGO,
            [(Offset(5), Mark::Unreserved)].into_iter(),
        );
        assert!(decode(&text, NextOffset(5), Some(&id("a"))).is_ok());
        assert!(decode(&text, NextOffset(5), None).is_ok());
        assert!(decode(&text, NextOffset(6), Some(&id("a"))).is_err());
        assert_eq!(
            decode(&text, NextOffset(5), Some(&id("b"))),
            Err(Unusable::OtherTopic)
        );
    }

    #[test]
    fn the_largest_header_fits_beside_the_largest_entries() {
        let id = TopicId("x".repeat(TOPIC_ID_BYTES_MAX));
        let base = NextOffset(i64::MAX - 3_000);
        let unfinished = (0..ENTRY_BYTES_MAX as i64).map(|i| (Offset(base.0 + i), Mark::Reserved));
        let maps_since = MapsSince {
            at: UnixMillis(i64::MAX),
            end: NextOffset(i64::MAX),
        };
        let text = encode(
            base,
            NextOffset(i64::MAX),
            Some(&id),
            maps_since,
            unfinished,
        );
        assert!(text.len() <= METADATA_UNITS_MAX, "{}", text.len());
    }
}
