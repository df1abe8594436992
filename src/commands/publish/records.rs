//! The records that `publish` sends: samples made from the contract's example, or
//! the lines of an input. Never uses Kafka. Runs on the main thread.

use crate::model::call::CallEnded;
use crate::model::disposition::DeadLetterReason;
use crate::model::tenant::TenantId;
use crate::search::export_line::ExportLine;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, Read as _};

/// The contract's example request, byte for byte.
const EXAMPLE: &str = include_str!("../../../tests/contract/example-request.json");
const EXAMPLE_ID: &str = r#""id":"0605589a-c1f7-47a5-b75c-3e639e1b928a""#;
const EXAMPLE_TENANT: &str = r#""tenantId":"87462158132343186600590049""#;

/// The maximum length of a line, in bytes: half of what librdkafka buffers. A
/// longer record would never be sent.
pub const LINE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A record to publish.
#[derive(PartialEq, Eq)]
pub struct Outgoing {
    /// The tenantId.
    pub key: String,
    pub value: Vec<u8>,
}

/// Sample records: the example with new ids, for each tenant in turn.
pub struct Samples {
    tenants: Vec<TenantId>,
    count: u64,
    made: u64,
    chance: RandomState,
}

impl Samples {
    /// Returns `count` records for these tenants, at least one.
    pub fn new(tenants: Vec<TenantId>, count: u64) -> Self {
        Self {
            tenants,
            count,
            made: 0,
            chance: RandomState::new(),
        }
    }

    /// Returns 128 bits in the form of a UUID. The two halves are keyed hashes.
    /// std takes their key from the system's randomness.
    fn new_id(&self) -> String {
        let high = self.chance.hash_one((self.made, "high"));
        let low = self.chance.hash_one((self.made, "low"));
        let hex = format!("{high:016x}{low:016x}");
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        parts.join("-")
    }
}

impl Iterator for Samples {
    type Item = Outgoing;

    fn next(&mut self) -> Option<Outgoing> {
        if self.made == self.count {
            return None;
        }
        let tenants = u64::try_from(self.tenants.len()).expect("a usize has at most 64 bits");
        let turn = usize::try_from(self.made % tenants).expect("less than a length");
        let tenant = &self.tenants[turn];
        let quoted = serde_json::to_string(tenant.as_str()).expect("a str is always JSON");
        let id = format!(r#""id":"{}""#, self.new_id());
        let value = EXAMPLE.replacen(EXAMPLE_ID, &id, 1).replacen(
            EXAMPLE_TENANT,
            &format!(r#""tenantId":{quoted}"#),
            1,
        );
        self.made += 1;
        Some(Outgoing {
            key: tenant.to_string(),
            value: value.into_bytes(),
        })
    }
}

/// A line without a record.
pub enum BadLine {
    /// `why` quotes nothing of the line.
    Refused {
        /// Counted from 1.
        number: u64,
        why: String,
    },
    Input(io::Error),
}

/// The records of an input: one per line. Empty lines are skipped.
pub struct Lines<R> {
    input: R,
    number: u64,
    ended: bool,
}

enum InputLine {
    Whole(Vec<u8>),
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// Returns the records of an input.
    pub fn new(input: R) -> Self {
        Self {
            input,
            number: 0,
            ended: false,
        }
    }

    /// Returns the next line with its line break. Empty at the end of the input.
    fn line(&mut self) -> io::Result<InputLine> {
        let mut line = Vec::new();
        let mut limited = self.input.by_ref().take(LINE_BYTES_MAX as u64);
        limited.read_until(b'\n', &mut line)?;
        if limited.limit() == 0 && !line.ends_with(b"\n") {
            self.input.skip_until(b'\n')?;
            return Ok(InputLine::TooLong);
        }
        Ok(InputLine::Whole(line))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Outgoing, BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            self.number += 1;
            let line = match self.line() {
                Ok(InputLine::Whole(line)) => line,
                Ok(InputLine::TooLong) => {
                    let why = format!("longer than {LINE_BYTES_MAX} bytes");
                    return Some(Err(self.refused(why)));
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(BadLine::Input(error)));
                }
            };
            if line.is_empty() {
                self.ended = true;
            } else if !line.trim_ascii().is_empty() {
                let value = line.trim_ascii().to_vec();
                return Some(read(value).map_err(|why| self.refused(why)));
            }
        }
        None
    }
}

/// Reads a record, or the record in a line of an export of dead letters.
fn read(line: Vec<u8>) -> Result<Outgoing, String> {
    let value = match ExportLine::read(&line) {
        Some(exported) if CallEnded::read(&line).is_err() => exported.record.ok_or(
            "a dead letter without its record: export with --body; unreadable ones have none",
        )?,
        _ => line,
    };
    let refused = |reason: DeadLetterReason| {
        let reason = reason.name();
        format!("not a record with id and tenantId ({reason})")
    };
    let call = CallEnded::read(&value).map_err(refused)?;
    Ok(Outgoing {
        key: call.tenant.to_string(),
        value,
    })
}

impl<R> Lines<R> {
    fn refused(&self, why: String) -> BadLine {
        BadLine::Refused {
            number: self.number,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn samples_are_the_example_with_a_new_id_and_the_tenant_in_turn() {
        let tenants = ["a", "b \"quoted\""].map(|t| TenantId::new(t).unwrap());
        let samples: Vec<Outgoing> = Samples::new(tenants.to_vec(), 5).collect();
        let mut ids = HashSet::new();
        for (at, sample) in samples.iter().enumerate() {
            let call = CallEnded::read(&sample.value).unwrap();
            assert_eq!(call.tenant, tenants[at % 2]);
            assert_eq!(sample.key, call.tenant.as_str());
            assert_eq!(call.id.as_str().len(), 36);
            ids.insert(call.id);
        }
        assert_eq!((samples.len(), ids.len()), (5, 5));
        let head = EXAMPLE.split(EXAMPLE_ID).next().unwrap();
        assert!(samples[0].value.starts_with(head.as_bytes()));
    }

    #[test]
    fn bad_lines_are_named_by_number_and_never_quoted() {
        let input = "{\"id\":\"1\",\"tenantId\":\"a\"}\n\n  {\"id\":\"hunter2\"}\nhunter2\n\
            {\"data\":{\"id\":\"2\",\"tenantId\":\"b\"}}\r\n{\"id\":\"3\",\"tenantId\":\"c\"}";
        let mut keys = Vec::new();
        let mut bad = Vec::new();
        for line in Lines::new(input.as_bytes()) {
            match line {
                Ok(outgoing) => keys.push(outgoing.key),
                Err(BadLine::Refused { number, why }) => bad.push((number, why)),
                Err(BadLine::Input(error)) => panic!("{error}"),
            }
        }
        assert_eq!(keys, ["a", "b", "c"]);
        assert_eq!(bad.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 4]);
        assert!(bad[0].1.contains("no_tenant_id") && bad[1].1.contains("undecodable"));
        assert!(bad.iter().all(|(_, why)| !why.contains("hunter2")));
    }
}
