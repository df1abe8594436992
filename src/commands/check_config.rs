//! `ringback check-config`: reports every mistake in settings and tenants.
//! Connects to nothing without `--connect`. Runs on the main thread.

use super::{Exit, print, property_mistakes, read_topic, refuse, warn};
use crate::cli::CheckConfigArgs;
use crate::config::mistake::Warning;
use crate::config::settings::Settings;
use crate::config::topic_tenants::TopicTenants;
use crate::config::values::AttemptLogSetting;
use crate::config::{self, Configured, ConfiguredTenants};
use crate::kafka::admin::check::{self, CheckVerdict, Finding};
use crate::kafka::settings::KafkaSettings;
use crate::model::tenant::Tenants;
use crate::service::kafka_settings;

/// Runs the checks. `warnings` are those about the environment.
#[must_use]
pub fn run(args: &CheckConfigArgs, warnings: &[Warning]) -> Exit {
    warn(warnings);
    let Configured { read, tenants } = match config::load(&args.settings, property_mistakes) {
        Ok(configured) => configured,
        Err(mistakes) => return refuse(&mistakes),
    };
    warn(&read.warnings);
    for (setting, value) in &read.effective {
        print(format_args!("{setting} = {value}"));
    }
    let topic = match tenants {
        ConfiguredTenants::Files(watch) => {
            print(counted(watch.in_force()));
            None
        }
        ConfiguredTenants::Topic(topic) => Some(topic),
    };
    if args.connect {
        return connect(&read.settings, topic);
    }
    if let Some(topic) = topic {
        let topic = topic.topic();
        print(format_args!(
            "the tenants are in the topic '{topic}': --connect reads them"
        ));
    }
    Exit::Done
}

fn counted(tenants: &Tenants) -> String {
    format!("{} tenants, {} enabled", tenants.len(), tenants.enabled())
}

/// Checks the brokers and the topics. Wrong topics end this command with the same
/// exit code as `run`.
fn connect(settings: &Settings, tenants: Option<TopicTenants>) -> Exit {
    let kafka = KafkaSettings {
        group: settings.group.clone(),
        ..kafka_settings(&settings.cluster, &settings.schedule)
    };
    let mut findings = check::check(&kafka);
    if settings.attempt_log == AttemptLogSetting::On {
        findings.push(check::attempt_log(&kafka));
    }
    if let Some(tenants) = tenants {
        findings.extend(tenants_topic(&kafka, tenants));
    }
    for finding in &findings {
        let verdict = match finding.verdict {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Warning => "warning",
            CheckVerdict::Wrong => "wrong",
        };
        print(format_args!("{verdict}: {}", finding.text));
    }
    if findings
        .iter()
        .any(|finding| finding.verdict == CheckVerdict::Wrong)
    {
        Exit::WrongSettings
    } else {
        Exit::Done
    }
}

/// Reads the tenants topic as a start of the service does. A refused entry is a
/// warning: the service starts without it.
fn tenants_topic(kafka: &KafkaSettings, mut tenants: TopicTenants) -> Vec<Finding> {
    let wrong = |text: String| vec![Finding::new(CheckVerdict::Wrong, text)];
    if let Err(error) = read_topic(kafka, &mut tenants) {
        return wrong(error.to_string());
    }
    if let Err(mistake) = tenants.check_start() {
        return wrong(mistake.to_string());
    }
    let read = format!(
        "tenants topic '{}' read: {}",
        tenants.topic(),
        counted(tenants.tenants())
    );
    let mut findings = vec![Finding::new(CheckVerdict::Ok, read)];
    let refused = tenants.refused_count();
    if refused > 0 {
        let first = &tenants.refused()[0];
        let text = format!(
            "{refused} entries are refused, the first: {}",
            first.mistake
        );
        findings.push(Finding::new(CheckVerdict::Warning, text));
    }
    findings
}
