//! Reads the filters of a command. All mistakes are collected.

use crate::cli::reading::FilterArgs;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::moments;
use crate::config::values;
use crate::model::attempt::ErrorClass;
use crate::model::call::RecordId;
use crate::model::disposition::DeadLetterReason;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use crate::search::{Filter, RecordPlace};

/// Reads the filters.
///
/// # Errors
/// Every mistake.
pub fn read(args: &FilterArgs, now: UnixMillis) -> Result<Filter, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let past = |text: &String| moments::past_moment(text, now);
    let since = mistakes.take("--since", args.since.as_ref().map(past).transpose());
    let until = mistakes.take("--until", args.until.as_ref().map(past).transpose());
    let (since, until) = (since.flatten(), until.flatten());
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        let (since, until) = (since.rfc3339(), until.rfc3339());
        let text = format!("{since} is not before --until, which is {until}");
        mistakes.0.push(Mistake::new("--since", text));
    }
    let ids = mistakes.take("--id", all(&args.id, id));
    let tenants = mistakes.take("--tenant", all(&args.tenant, tenant));
    let reasons = mistakes.take("--reason", all(&args.reason, reason));
    let errors = mistakes.take("--error", all(&args.error, error));
    let status = |text: &str| values::number(text, 100..=599);
    let statuses = mistakes.take("--status", all(&args.status, status));
    let origins = mistakes.take("--origin", all(&args.origin, origin));
    mistakes.unless_any(|| {
        Some(Filter {
            ids: ids?.into_iter().collect(),
            tenants: tenants?.into_iter().collect(),
            reasons: reasons?,
            errors: errors?,
            statuses: statuses?,
            origins: origins?.into_iter().collect(),
            since,
            until,
        })
    })
}

fn all<T>(texts: &[String], read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    texts.iter().map(|text| read(text)).collect()
}

/// Reads a record's id.
///
/// # Errors
/// The text is none; the error says what is allowed.
pub fn id(text: &str) -> Result<String, String> {
    let allowed = format!(
        "an id has 1 to {} visible ASCII characters",
        RecordId::LEN_MAX
    );
    let id = RecordId::new(text).ok_or_else(|| format!("'{}': {allowed}", text.escape_debug()))?;
    Ok(id.to_string())
}

/// Reads a tenantId.
///
/// # Errors
/// The text is none; the error says what is allowed.
pub fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::new(text).map_err(|why| format!("'{}': {why}", text.escape_debug()))
}

fn reason(text: &str) -> Result<DeadLetterReason, String> {
    let names = DeadLetterReason::ALL.map(DeadLetterReason::name);
    DeadLetterReason::from_name(text).ok_or_else(|| values::no_choice(text, &names))
}

fn error(text: &str) -> Result<ErrorClass, String> {
    let names = ErrorClass::ALL.map(ErrorClass::name);
    ErrorClass::from_name(text).ok_or_else(|| values::no_choice(text, &names))
}

fn origin(text: &str) -> Result<String, String> {
    let place: RecordPlace = text.parse()?;
    Ok(place.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_filter_is_named_with_what_is_allowed() {
        let text = |text: &str| Some(text.to_owned());
        let list = |text: &str| vec![text.to_owned()];
        let args = FilterArgs {
            tenant: list(""),
            id: list("a b"),
            reason: list("dead"),
            error: list("http_6xx"),
            status: list("99"),
            origin: list("x"),
            since: text("2100-01-01T00:00:00Z"),
            until: text("soon"),
        };
        let mistakes = read(&args, UnixMillis(1_764_504_000_000)).expect_err("all are wrong");
        let names: Vec<&str> = mistakes.iter().map(|m| m.name.as_str()).collect();
        let expected = [
            "--since", "--until", "--id", "--tenant", "--reason", "--error", "--status", "--origin",
        ];
        assert_eq!(names, expected);
        assert!(mistakes[4].text.contains("attempts_exhausted"));
        assert!(mistakes[5].text.contains("http_5xx"));
        assert!(mistakes[6].text.contains("100 to 599"));
    }

    #[test]
    fn a_start_after_the_end_is_refused() {
        let args = FilterArgs {
            since: Some("1h".to_owned()),
            until: Some("2h".to_owned()),
            ..FilterArgs::default()
        };
        let mistakes = read(&args, UnixMillis(1_764_504_000_000)).expect_err("it is refused");
        assert!(mistakes[0].text.contains("is not before --until"));
    }
}
