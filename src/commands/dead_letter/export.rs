//! `ringback dead-letter export`: one line of JSON for each dead letter, as
//! [`export_line`](crate::search::export_line) defines it. `publish -` takes lines
//! with a record, and `redrive --from FILE` takes all lines.

use super::each_selected;
use crate::cli::output::OutputFormat;
use crate::cli::reading::ExportArgs;
use crate::clock::Clock;
use crate::commands::reading::output::Output;
use crate::commands::reading::record_json::RecordJson;
use crate::commands::reading::{self, filters};
use crate::commands::{Exit, fault, refuse};
use crate::config::mistake::both;
use crate::search::export_line::one_line;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

/// Exports the selected dead letters.
pub fn run(args: &ExportArgs) -> Exit {
    let filter = filters::read(&args.filter, Clock::start().now());
    let (settings, filter) = match both(reading::settings(&args.settings), filter) {
        Ok(read) => read,
        Err(mistakes) => return refuse(&mistakes),
    };
    let mut output = Output::new(OutputFormat::Json);
    let exported = each_selected(&settings, filter, |found, record| {
        let value = record.value().filter(|_| args.body);
        output.json(&LineJson::new(
            RecordJson::of(&found),
            found.identity.is_ok(),
            value,
        ));
        output.flow()
    });
    exported.unwrap_or_else(|error| fault(&error))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineJson {
    ringback: RecordJson,
    /// The value of a record that can be published again.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Box<RawValue>>,
    /// Any other value.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl LineJson {
    fn new(ringback: RecordJson, is_record: bool, value: Option<&[u8]>) -> Self {
        let record = value.filter(|_| is_record).and_then(one_line);
        let other = value.filter(|_| record.is_none());
        Self {
            ringback,
            value_base64: other.map(|value| STANDARD.encode(value)),
            record,
        }
    }
}
