//! `tenant test`: sends one signed sample to a tenant, or to a URL that is not
//! configured yet. It shows each step, what failed, and what to do. The outcome is
//! that of the service's own client.

use super::{HttpFacts, find, unknown, url, with_tenants};
use crate::cli::output::OutputFormat;
use crate::cli::tenant::TenantTestArgs;
use crate::clock::{self, Clock};
use crate::commands::publish::records::Samples;
use crate::commands::{fault, print, property_mistakes, refuse, say};
use crate::config;
use crate::config::settings::{self, Settings};
use crate::exit::Exit;
use crate::http::callback::Callbacks;
use crate::http::probe::{Prober, TEST_HEADER};
use crate::http::url_check::origin;
use crate::model::attempt::Outcome;
use crate::model::call::CallEnded;
use crate::model::message::{AttemptRequest, Isolation};
use crate::model::position::{Offset, Topic};
use crate::model::tenant::{Secret, Tenant};
use crate::model::time::UnixMillis;
use bytes::Bytes;
use report::Report;
use std::error::Error;
use std::io;
use std::sync::Arc;

mod report;

/// Sends the sample. Exits 0 only on 2xx.
pub fn test(args: &TenantTestArgs) -> Exit {
    match &args.tenant {
        Some(id) => with_tenants(&args.settings, |settings, tenants| {
            match find(tenants, id) {
                Some(tenant) => test_with(settings, args, Some(tenant)),
                None => unknown(id),
            }
        }),
        None => match settings::read_callbacks(&args.settings, property_mistakes) {
            Ok(settings) => test_with(&settings, args, None),
            Err(mistakes) => refuse(&mistakes),
        },
    }
}

/// Tests the listed tenant, the URL of the flag, or the tenant at that URL.
fn test_with(settings: &Settings, args: &TenantTestArgs, listed: Option<&Arc<Tenant>>) -> Exit {
    let at = |url| config::tenant_at(url, args.secret_file.as_deref(), settings.tenant_rules());
    let at_url = match args.url.as_deref().map(at).transpose() {
        Ok(at_url) => at_url,
        Err(mistakes) => return refuse(&mistakes),
    };
    let tenant = match (listed, at_url) {
        (Some(listed), None) => Arc::clone(listed),
        (Some(listed), Some(other)) => {
            let mut tenant = Tenant::clone(listed);
            tenant.url = other.url;
            if !other.secrets.is_empty() {
                tenant.secrets = other.secrets;
            }
            Arc::new(tenant)
        }
        (None, Some(other)) => Arc::new(other),
        (None, None) => return unknown(""),
    };
    let report = match send(&HttpFacts::new(settings), &tenant) {
        Ok(report) => report,
        Err(error) => return fault(error.as_ref()),
    };
    match args.output {
        OutputFormat::Json => print(report.json()),
        OutputFormat::Table => say(&mut io::stdout(), &report.text()),
    }
    match report.outcome {
        Outcome::Delivered { .. } => Exit::Done,
        Outcome::Failed { .. } => Exit::Fault,
    }
}

fn send(facts: &HttpFacts, tenant: &Arc<Tenant>) -> Result<Report, Box<dyn Error>> {
    let prober = Prober::new(
        &facts.settings,
        &facts.files.resolv_conf,
        &facts.files.hosts,
    )?;
    let callbacks = Arc::new(Callbacks::new(facts.settings.clone())?);
    callbacks.look_names_up_in(&facts.files.resolv_conf, &facts.files.hosts);
    let url = url(tenant);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let started = clock::elapsed();
        let steps = prober.steps(&url).await;
        let now = Clock::start().now();
        let asked = clock::elapsed();
        let outcome = callbacks.attempt(sample(tenant), now).await;
        let took = clock::elapsed().saturating_sub(asked);
        let speaks_tls =
            url.scheme() == "http" && report::may_be_tls(&outcome) && prober.speaks_tls(&url).await;
        Ok(Report {
            tenant: tenant.id.clone(),
            enabled: tenant.enabled,
            signed: !tenant.secrets.is_empty(),
            origin: origin(&url),
            limit: facts.settings.timeout,
            proxied: facts.settings.proxy.is_some(),
            steps,
            speaks_tls,
            outcome,
            attempt: took,
            total: clock::elapsed().saturating_sub(started),
        })
    })
}

/// Returns the attempt: the contract's example for this tenant, with a new id.
fn sample(tenant: &Arc<Tenant>) -> AttemptRequest {
    let mut marked = Tenant::clone(tenant);
    let mark = (TEST_HEADER.to_owned(), Secret("1".to_owned()));
    marked.headers.push(mark);
    let record = Samples::new(vec![tenant.id.clone()], 1).next();
    let value = Bytes::from(record.expect("one was asked for").value);
    AttemptRequest {
        // It stands in no topic: nothing is made of the position.
        position: Topic::Source.partition(0).at(Offset(0)),
        tenant: Arc::new(marked),
        call: CallEnded::read(&value).expect("the example is a record"),
        value,
        attempt: 1,
        start_by: UnixMillis(i64::MAX),
        traceparent: None,
        isolation: Isolation::Shared,
    }
}
