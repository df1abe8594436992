//! The report of `tenant test`: the steps, and for a failure its cause and an
//! advice, as a person would tell them. Pure.

use crate::commands::table::aligned;
use crate::http::probe::{StepKind, Steps, Tunnel};
use crate::model::attempt::{ErrorClass, Outcome};
use crate::model::tenant::TenantId;
use crate::model::time::DurationText;
use serde_json::{Value, json};
use std::time::Duration;

const PROXY_ADVICE: &str = ErrorClass::Proxy.advice();

const HTTPS_ADVICE: &str = "configure the callback URL with https";

/// What a test has shown.
pub struct Report {
    pub tenant: TenantId,
    pub enabled: bool,
    pub signed: bool,
    /// Scheme, host and port of the URL.
    pub origin: String,
    /// The deadline of an attempt.
    pub limit: Duration,
    pub steps: Steps,
    /// Whether attempts go through an egress proxy.
    pub proxied: bool,
    /// Whether the port of an http URL speaks TLS.
    pub speaks_tls: bool,
    pub outcome: Outcome,
    /// How long the attempt took, with all its steps.
    pub attempt: Duration,
    pub total: Duration,
}

/// Returns whether a port that ends an attempt by http so may be one of TLS.
pub fn may_be_tls(outcome: &Outcome) -> bool {
    let Outcome::Failed { class, status, .. } = outcome else {
        return false;
    };
    matches!(class, ErrorClass::Protocol | ErrorClass::Reset) || *status == Some(400)
}

impl Report {
    /// Returns the cause and the advice; `None` after a delivery.
    pub fn cause(&self) -> Option<(String, &'static str)> {
        let Outcome::Failed {
            class,
            status,
            detail,
            ..
        } = &self.outcome
        else {
            return None;
        };
        if self.speaks_tls {
            let cause = "the port speaks TLS, and the URL has http";
            return Some((cause.to_owned(), HTTPS_ADVICE));
        }
        if let Some(cause) = self.proxy_fault(*status) {
            return Some(cause);
        }
        if *class != ErrorClass::Timeout {
            return Some((detail.clone(), class.advice_on(*status)));
        }
        let limit = DurationText(self.limit);
        let connected = self.steps.connect.iter().any(|one| one.fault.is_none());
        Some(match self.steps.hung {
            Some(StepKind::Handshake) => {
                let cause = format!("the TLS handshake got no answer within {limit}");
                (cause, ErrorClass::Tls.advice())
            }
            Some(StepKind::ProxyTunnel) => {
                let cause = format!("the egress proxy opened no tunnel within {limit}");
                (cause, class.advice())
            }
            Some(StepKind::Lookup | StepKind::Connection) => self.no_connection(),
            None if !connected => self.no_connection(),
            None => {
                let cause = format!("the request was sent, and no answer came within {limit}");
                (cause, class.advice())
            }
        })
    }

    /// Returns the cause where the egress proxy did not reach the receiver.
    fn proxy_fault(&self, status: Option<u16>) -> Option<(String, &'static str)> {
        let failed = self
            .steps
            .connect
            .iter()
            .filter_map(|one| one.fault.as_ref())
            .next();
        let tunnel = self.steps.tunnel.as_ref();
        let refusal = tunnel.filter(|tunnel| tunnel.fault.is_some());
        let status = refusal.map_or(status.filter(|status| *status == 407), |t| t.status);
        if !self.proxied {
            return None;
        }
        Some(match (failed, refusal, status) {
            (Some(fault), ..) => {
                let cause = format!("the egress proxy cannot be reached: {fault}");
                (cause, PROXY_ADVICE)
            }
            (None, _, Some(407)) => {
                let cause = "the egress proxy answered 407: it wants other credentials";
                (cause.to_owned(), PROXY_ADVICE)
            }
            (None, Some(_), Some(status @ 500..)) => {
                let cause =
                    format!("the egress proxy did not reach the receiver: it answered {status}");
                (cause, ErrorClass::Connect.advice())
            }
            (None, Some(Tunnel { fault, .. }), _) => {
                let fault = fault.as_deref().unwrap_or_default();
                (
                    format!("the egress proxy opened no tunnel: {fault}"),
                    PROXY_ADVICE,
                )
            }
            (None, None, _) => return None,
        })
    }

    fn no_connection(&self) -> (String, &'static str) {
        let limit = DurationText(self.limit);
        let cause = format!("the address answered no connection within {limit}");
        (cause, ErrorClass::Connect.advice())
    }

    /// Returns the report for people.
    pub fn text(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut row = |step: &str, time: String, found: String| {
            rows.push(vec![step.to_owned(), time, found]);
        };
        let mut about = self.tenant.to_string();
        if !self.enabled {
            about.push_str(" (disabled: its records are skipped)");
        }
        row("tenant", String::new(), about);
        row("url", String::new(), self.origin.clone());
        if let Some(dns) = &self.steps.dns {
            let addresses = dns.addresses.iter().map(|found| match found.permitted {
                true => found.address.to_string(),
                false => format!("{} (refused: not public)", found.address),
            });
            let addresses = addresses.collect::<Vec<_>>().join(", ");
            row("dns", ms(dns.ms), dns.fault.clone().unwrap_or(addresses));
        }
        for one in &self.steps.connect {
            let found = with_fault(one.address.to_string(), one.fault.as_ref());
            row("connect", ms(one.ms), found);
        }
        if let Some(tunnel) = &self.steps.tunnel {
            let found = with_fault("egress proxy".to_owned(), tunnel.fault.as_ref());
            row("tunnel", ms(tunnel.ms), found);
        }
        if let Some(tls) = &self.steps.tls {
            let agreed = [&tls.version, &tls.cipher, &tls.protocol];
            let agreed: Vec<&str> = agreed.into_iter().flatten().map(String::as_str).collect();
            let found = tls.fault.clone().unwrap_or_else(|| agreed.join(", "));
            row("tls", ms(tls.ms), found);
            for one in &tls.certificates {
                let (subject, issuer) = (&one.subject, &one.issuer);
                let (names, until) = (one.names.join(" "), &one.until);
                let text = format!("{subject}; for: {names}; issuer: {issuer}; ends {until}");
                row("", String::new(), text);
            }
        }
        if let Some(step) = self.steps.hung {
            row(step.name(), String::new(), "no answer in time".to_owned());
        }
        let signed = if self.signed {
            "signed"
        } else {
            "not signed: no secret"
        };
        let request = match self.was_sent() {
            true => format!("one sample, {signed}"),
            false => "not sent".to_owned(),
        };
        row("request", String::new(), request);
        let took = |duration: Duration| ms(millis(duration));
        let answer = match self.status() {
            Some(status) => status.to_string(),
            None => "none".to_owned(),
        };
        row("answer", took(self.attempt), answer);
        row("total", took(self.total), String::new());
        let mut text = aligned(&["STEP", "TIME", "FOUND"], &rows);
        text.push_str(&match self.cause() {
            None => "result: delivered\n".to_owned(),
            Some((cause, advice)) => {
                let class = self.class().unwrap_or_default();
                format!("result: failed ({class})\ncause:  {cause}\nadvice: {advice}\n")
            }
        });
        text
    }

    /// Returns the report for programs.
    pub fn json(&self) -> Value {
        let cause = self.cause();
        json!({
            "tenant": self.tenant.as_str(),
            "enabled": self.enabled,
            "url": self.origin,
            "signed": self.signed,
            "steps": self.steps,
            "status": self.status(),
            "attemptMs": millis(self.attempt),
            "totalMs": millis(self.total),
            "delivered": cause.is_none(),
            "class": self.class(),
            "cause": cause.as_ref().map(|(cause, _)| cause),
            "advice": cause.as_ref().map(|(_, advice)| advice),
        })
    }

    fn was_sent(&self) -> bool {
        use ErrorClass::{Connect, Dns, Proxy, RefusedAddress, Tls};
        match &self.outcome {
            Outcome::Failed { class, .. } => {
                self.steps.hung.is_none()
                    && ![Connect, Dns, Proxy, RefusedAddress, Tls].contains(class)
            }
            Outcome::Delivered { .. } => true,
        }
    }

    fn class(&self) -> Option<&'static str> {
        match &self.outcome {
            Outcome::Failed { class, .. } => Some(class.name()),
            Outcome::Delivered { .. } => None,
        }
    }

    fn status(&self) -> Option<u16> {
        match self.outcome {
            Outcome::Delivered { status } => Some(status),
            Outcome::Failed { status, .. } => status,
        }
    }
}

fn with_fault(found: String, fault: Option<&String>) -> String {
    match fault {
        Some(fault) => format!("{found}: {fault}"),
        None => found,
    }
}

fn ms(ms: u64) -> String {
    format!("{ms} ms")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
