//! `ringback receive`: its arguments become the plan of a receiver, and every
//! mistake in them is reported at once. The receiver itself is in
//! [`crate::receive`]. Runs on the main thread.

use super::{Exit, fault, refuse};
use crate::cli::ReceiveArgs;
use crate::config::mistake::{Mistake, Mistakes};
use crate::http::signature::Keys;
use crate::model::tenant::Secret;
use crate::model::time::{DurationText, parse_duration};
use crate::receive::{self, OutputFormat, PlannedAnswer, ReceivePlan};
use axum::http::{StatusCode, Uri};
use std::time::Duration;

const DELAY_MAX: Duration = Duration::from_secs(10 * 60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Receives until SIGTERM, SIGINT or SIGQUIT.
#[must_use]
pub fn run(args: &ReceiveArgs) -> Exit {
    match plan(args).map(receive::run) {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(error)) => fault(error.as_ref()),
        Err(mistakes) => refuse(&mistakes),
    }
}

fn plan(args: &ReceiveArgs) -> Result<ReceivePlan, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let listen = &args.listen;
    let wrong = |_| format!("'{listen}' is not an address and port: write 127.0.0.1:8080");
    let listen = mistakes.take("--listen", listen.parse().map_err(wrong));
    let secrets: Vec<Secret> = args.secret.iter().cloned().map(Secret).collect();
    let keys = Keys::read(&secrets).map_err(|error| error.to_string());
    let keys = mistakes.take("--secret", keys);
    let status = args.answer.parse().ok().filter(|s| (200..=599).contains(s));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let wrong = || format!("'{}' is not a status from 200 to 599", args.answer);
    let status = mistakes.take("--answer", status.ok_or_else(wrong));
    let mut duration = |name: &str, text: &str, max: Duration| {
        let read = parse_duration(text).ok().filter(|read| *read <= max);
        let wrong = || format!("'{text}' is not allowed: 0s to {}", DurationText(max));
        mistakes.take(name, read.ok_or_else(wrong))
    };
    let delay = duration("--delay", &args.delay, DELAY_MAX);
    let retry_after = args.retry_after.as_ref();
    let retry_after = retry_after.map(|text| duration("--retry-after", text, RETRY_AFTER_MAX));
    let forward = args.forward.as_deref();
    let forward = forward.map(|url| mistakes.take("--forward", local(url, &args.secret)));
    let wrong = || format!("'{}' is not one of text, json", args.format);
    let format = OutputFormat::from_name(&args.format).ok_or_else(wrong);
    let format = mistakes.take("--format", format);
    mistakes.unless_any(|| {
        Some(ReceivePlan {
            listen: listen?,
            keys: keys?,
            answer: match forward {
                Some(target) => PlannedAnswer::Forward(target?),
                None if args.silent => PlannedAnswer::Never,
                None => PlannedAnswer::Status(status?, delay?, retry_after.flatten()),
            },
            format: format?,
        })
    })
}

/// Reads the URL of a program on this machine.
fn local(url: &str, secrets: &[String]) -> Result<Uri, String> {
    let target: Option<Uri> = url.parse().ok();
    let target = target.filter(|url| url.scheme_str() == Some("http"));
    let wrong = || format!("'{url}' is not a URL such as http://127.0.0.1:3000/call-ended");
    let target = target.ok_or_else(wrong)?;
    if secrets.is_empty() {
        return Err("needs --secret: only what verified is forwarded".to_owned());
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ReceiveArgs {
        ReceiveArgs {
            listen: "127.0.0.1:0".to_owned(),
            secret: Vec::new(),
            answer: "200".to_owned(),
            delay: "0s".to_owned(),
            retry_after: None,
            silent: false,
            forward: None,
            format: "text".to_owned(),
        }
    }

    #[test]
    fn all_mistakes_are_reported_at_once_and_no_secret_is_shown() {
        let wrong = ReceiveArgs {
            listen: "8080".to_owned(),
            secret: vec!["hunter2".to_owned()],
            answer: "100".to_owned(),
            delay: "1h".to_owned(),
            retry_after: Some("soon".to_owned()),
            silent: false,
            forward: Some("https://localhost/".to_owned()),
            format: "xml".to_owned(),
        };
        let mistakes = plan(&wrong).err().expect("it is all wrong");
        let names: Vec<&str> = mistakes
            .iter()
            .map(|mistake| mistake.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "--listen",
                "--secret",
                "--answer",
                "--delay",
                "--retry-after",
                "--forward",
                "--format"
            ]
        );
        assert!(!format!("{mistakes:?}").contains("hunter2"));
    }

    #[test]
    fn without_a_secret_nothing_is_verified() {
        assert!(plan(&args()).is_ok_and(|plan| plan.keys.is_empty()));
        let secret = vec!["whsec_cmlnaHQ=".to_owned()];
        let with = ReceiveArgs { secret, ..args() };
        assert!(plan(&with).is_ok_and(|plan| !plan.keys.is_empty()));
    }
}
