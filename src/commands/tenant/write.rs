//! `tenant set`, `tenant remove` and `tenant import`: write the tenants topic. All
//! checks come first: where anything is wrong, nothing is written. Never shows a
//! secret, a header's value or a URL. Runs on the main thread.

use super::unknown;
use crate::cli::tenant_write::{TenantImportArgs, TenantRemoveArgs, TenantSetArgs};
use crate::commands::{fault, print, property_mistakes, read_topic, refuse, say, topic_fault};
use crate::config::mistake::Mistake;
use crate::config::setting::Typed;
use crate::config::settings::{self, Schedule, TenantsWriter};
use crate::config::tenant_entry::{self, EntryFlags};
use crate::config::tenants::{self, TenantRules};
use crate::config::topic_tenants::TopicTenants;
use crate::config::values::NoTenants;
use crate::exit::Exit;
use crate::kafka::publish::Publisher;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::tenants_topic::TenantsTopicError;
use crate::model::tenant::{Tenant, TenantId, Tenants};
use crate::service::kafka_settings;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Duration;

/// The maximum wait for the acknowledgements of all entries.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);
/// The largest entry that is read from standard input.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;
/// Tenants that a summary names for each kind of change.
const NAMED_MAX: usize = 20;

/// Writes the settings of one tenant.
pub fn set(args: &TenantSetArgs) -> Exit {
    let topic = match Topic::of(&args.settings) {
        Ok(topic) => topic,
        Err(mistakes) => return refuse(&mistakes),
    };
    let tenant = match entry(args, topic.rules) {
        Ok(tenant) => tenant,
        Err(mistakes) => return refuse(&mistakes),
    };
    topic.run(|topic| {
        // Checks the topic too.
        topic.read()?;
        let entry = (tenant.id.clone(), Some(tenants::to_json(&tenant)));
        topic.write(&[entry])?;
        let (tenant, topic) = (&tenant.id, &topic.name);
        print(format_args!("tenant {tenant:?} was written to '{topic}'"));
        Ok(Exit::Done)
    })
}

fn entry(args: &TenantSetArgs, rules: TenantRules) -> Result<Tenant, Vec<Mistake>> {
    let Some(from) = &args.from else {
        let flags = EntryFlags {
            url: args.url.as_deref(),
            secret_file: args.secret_file.as_deref(),
            header_file: args.header_file.as_deref(),
            max_in_flight: args.max_in_flight.as_deref(),
            timeout: args.timeout.as_deref(),
            disabled: args.disabled,
        };
        return tenant_entry::of_flags(&args.tenant, &flags, rules);
    };
    if from.as_os_str() != "-" {
        return tenant_entry::of_file(&args.tenant, from, rules);
    }
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_end(&mut bytes);
    read.map_err(|why| vec![Mistake::new("--from -", why.to_string())])?;
    tenants::parse_entry(&args.tenant, &bytes, rules)
}

/// Removes one tenant.
pub fn remove(args: &TenantRemoveArgs) -> Exit {
    let topic = match Topic::of(&args.settings) {
        Ok(topic) => topic,
        Err(mistakes) => return refuse(&mistakes),
    };
    let Ok(id) = TenantId::new(&args.tenant) else {
        return unknown(&args.tenant);
    };
    topic.run(|topic| {
        if !topic.read()?.has_entry(&id) {
            return Ok(unknown(id.as_str()));
        }
        topic.write(&[(id.clone(), None)])?;
        let topic = &topic.name;
        print(format_args!("tenant {id:?} was removed from '{topic}'"));
        Ok(Exit::Done)
    })
}

/// Writes the tenants of a file or a directory.
pub fn import(args: &TenantImportArgs) -> Exit {
    let topic = match Topic::of(&args.settings) {
        Ok(topic) => topic,
        Err(mistakes) => return refuse(&mistakes),
    };
    let new = match tenant_entry::of_files(&args.from, topic.rules) {
        Ok(new) => new,
        Err(mistakes) => return refuse(&mistakes),
    };
    topic.run(|topic| {
        let changes = Changes::between(&topic.read()?, &new);
        let removed = match (args.prune, changes.removed.len()) {
            (true, _) | (_, 0) => "removed",
            (false, _) => "not in the files, kept without --prune",
        };
        for (kind, ids) in [
            ("added", &changes.added),
            ("changed", &changes.changed),
            (removed, &changes.removed),
        ] {
            say(&mut io::stdout(), &summary(kind, ids));
        }
        print(format_args!("unchanged: {}", changes.unchanged));
        if args.dry_run {
            return Ok(Exit::Done);
        }
        let written = changes.added.iter().chain(&changes.changed);
        let mut entries: Vec<Entry> = written
            .filter_map(|id| Some((id.clone(), Some(tenants::to_json(new.get(id)?)))))
            .collect();
        if args.prune {
            let removed = changes.removed.iter();
            entries.extend(removed.map(|id| (id.clone(), None)));
        }
        topic.write(&entries)?;
        let (count, topic) = (entries.len(), &topic.name);
        print(format_args!("{count} entries were written to '{topic}'"));
        Ok(Exit::Done)
    })
}

/// Returns a line with the number of tenants, and one for each of the first ones.
fn summary(kind: &str, ids: &[TenantId]) -> String {
    let mut text = format!("{kind}: {}\n", ids.len());
    for id in ids.iter().take(NAMED_MAX) {
        text.push_str(&format!("  {id:?}\n"));
    }
    if ids.len() > NAMED_MAX {
        text.push_str(&format!("  and {} more\n", ids.len() - NAMED_MAX));
    }
    text
}

/// What an import changes. Each list is sorted.
struct Changes {
    added: Vec<TenantId>,
    changed: Vec<TenantId>,
    removed: Vec<TenantId>,
    unchanged: usize,
}

impl Changes {
    fn between(old: &TopicTenants, new: &Tenants) -> Self {
        let sorted: BTreeMap<&TenantId, &Arc<Tenant>> =
            new.iter().map(|tenant| (&tenant.id, tenant)).collect();
        let (mut added, mut changed, mut unchanged) = (Vec::new(), Vec::new(), 0);
        for (id, tenant) in sorted {
            match old.tenants().get(id) {
                _ if old.is_refused(id) => changed.push(id.clone()),
                None => added.push(id.clone()),
                Some(old) if old == tenant => unchanged += 1,
                Some(_) => changed.push(id.clone()),
            }
        }
        let old = old
            .tenants()
            .iter()
            .filter(|tenant| !new.contains(&tenant.id));
        let mut removed: Vec<TenantId> = old.map(|tenant| tenant.id.clone()).collect();
        removed.sort();
        Self {
            added,
            changed,
            removed,
            unchanged,
        }
    }
}

/// An entry to write: the tenant, and its settings unless it is removed.
type Entry = (TenantId, Option<String>);

/// The tenants topic of the settings.
struct Topic {
    name: String,
    kafka: KafkaSettings,
    rules: TenantRules,
}

impl Topic {
    fn of(typed: &Typed) -> Result<Self, Vec<Mistake>> {
        let TenantsWriter {
            cluster,
            topic,
            rules,
        } = settings::read_tenants_writer(typed, property_mistakes)?;
        let schedule = Schedule {
            attempts: 1,
            delays: Vec::new(),
            record_bytes_max: 1024 * 1024,
        };
        Ok(Self {
            name: topic,
            kafka: kafka_settings(&cluster, &schedule),
            rules,
        })
    }

    fn run(&self, command: impl FnOnce(&Self) -> Result<Exit, Box<dyn Error>>) -> Exit {
        command(self).unwrap_or_else(|error| match error.downcast_ref() {
            Some(error) => topic_fault(error),
            None => fault(error.as_ref()),
        })
    }

    /// Reads the topic to its end. A refused entry counts as changed.
    fn read(&self) -> Result<TopicTenants, TenantsTopicError> {
        let mut tenants = TopicTenants::new(self.name.clone(), self.rules, NoTenants::Allowed);
        read_topic(&self.kafka, &mut tenants)?;
        Ok(tenants)
    }

    fn write(&self, entries: &[Entry]) -> Result<(), Box<dyn Error>> {
        let mut publisher = Publisher::to(&self.kafka, self.name.clone())?;
        for (id, json) in entries {
            let value = json.as_deref().map(str::as_bytes);
            publisher.send(Some(id.as_str().as_bytes()), value, &[])?;
        }
        publisher.finish(ACKNOWLEDGED_WITHIN)?;
        Ok(())
    }
}
