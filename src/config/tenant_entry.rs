//! The settings of one tenant from flags or a file, and tenants from files, for the
//! commands that write a tenants topic. Never shows a secret or a header's value. Runs
//! on the main thread.

use super::environment::read_file;
use super::mistake::{Mistake, Mistakes};
use super::setting::not_utf8;
use super::tenant_files::TenantFiles;
use super::tenants::{self, TenantRules};
use super::values::FILE_BYTES_MAX;
use crate::model::tenant::{Tenant, Tenants};
use serde_json::{Map, Value};
use std::path::Path;

/// The settings of a tenant as they were typed.
pub struct EntryFlags<'a> {
    pub url: Option<&'a str>,
    /// One secret per line.
    pub secret_file: Option<&'a Path>,
    /// One `name: value` per line.
    pub header_file: Option<&'a Path>,
    pub max_in_flight: Option<&'a str>,
    pub timeout: Option<&'a str>,
    pub disabled: bool,
}

/// Checks the settings of one tenant.
///
/// # Errors
/// Every mistake.
pub fn of_flags(
    id: &str,
    flags: &EntryFlags<'_>,
    rules: TenantRules,
) -> Result<Tenant, Vec<Mistake>> {
    let mut mistakes = Mistakes::default();
    let mut entry = Map::new();
    if let Some(url) = flags.url {
        entry.insert("url".to_owned(), url.into());
    }
    if let Some(path) = flags.secret_file {
        let secrets = lines(path).map(|lines| lines.into_iter().map(Value::from).collect());
        let secrets = mistakes.take("--secret-file", secrets);
        entry.extend(secrets.map(|secrets| ("secrets".to_owned(), secrets)));
    }
    if let Some(path) = flags.header_file {
        let headers = mistakes.take("--header-file", headers(path));
        entry.extend(headers.map(|headers| ("headers".to_owned(), headers.into())));
    }
    if let Some(text) = flags.max_in_flight {
        // The check below refuses what is no number.
        let number = text
            .trim()
            .parse::<u64>()
            .map_or(Value::from(text), Value::from);
        entry.insert("maxInFlight".to_owned(), number);
    }
    if let Some(timeout) = flags.timeout {
        entry.insert("timeout".to_owned(), timeout.into());
    }
    entry.insert("enabled".to_owned(), (!flags.disabled).into());
    let json = Value::from(entry).to_string();
    let tenant = tenants::parse_entry(id, json.as_bytes(), rules);
    let tenant = tenant.map_err(|wrong| mistakes.0.extend(wrong)).ok();
    mistakes.unless_any(|| tenant)
}

/// Checks the settings of one tenant in a file.
///
/// # Errors
/// Every mistake.
pub fn of_file(id: &str, path: &Path, rules: TenantRules) -> Result<Tenant, Vec<Mistake>> {
    let read = read_file(path, FILE_BYTES_MAX);
    let bytes = read.map_err(|why| vec![Mistake::new("--from", why)])?;
    tenants::parse_entry(id, &bytes, rules)
}

/// Checks the tenants of a file or a directory.
///
/// # Errors
/// Every mistake.
pub fn of_files(path: &Path, rules: TenantRules) -> Result<Tenants, Vec<Mistake>> {
    TenantFiles::start(path, rules).1
}

/// Returns the lines of a file that are not empty.
fn lines(path: &Path) -> Result<Vec<String>, String> {
    let text = String::from_utf8(read_file(path, FILE_BYTES_MAX)?).map_err(|_| not_utf8())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

fn headers(path: &Path) -> Result<Map<String, Value>, String> {
    let mut headers = Map::new();
    for (number, line) in (1..).zip(lines(path)?) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("line {number} is not `name: value`"));
        };
        let before = headers.insert(name.trim().to_ascii_lowercase(), value.trim().into());
        if before.is_some() {
            return Err(format!("line {number} repeats a header"));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: EntryFlags<'_> = EntryFlags {
        url: Some("https://h/x?y=1"),
        secret_file: None,
        header_file: None,
        max_in_flight: Some("3"),
        timeout: Some("2s"),
        disabled: true,
    };

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let name = format!("ringback-entry-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("the folder is writable");
        path
    }

    #[test]
    fn an_entry_of_flags_is_written_and_read_again_unchanged() {
        let secrets = file("secrets", "whsec_bmV3ZXI=\n\nwhsec_b2xkZXI=\n");
        let headers = file("headers", "X-Team: blue: 1\nx-b:2\n");
        let flags = EntryFlags {
            secret_file: Some(&secrets),
            header_file: Some(&headers),
            ..FLAGS
        };
        let rules = TenantRules::default();
        let tenant = of_flags("t", &flags, rules).expect("valid");
        assert_eq!((tenant.max_in_flight, tenant.enabled), (3, false));
        assert_eq!((tenant.secrets.len(), tenant.headers.len()), (2, 2));
        let json = tenants::to_json(&tenant);
        let again = tenants::parse_entry("t", json.as_bytes(), rules);
        assert_eq!(again, Ok(tenant));
        for path in [secrets, headers] {
            std::fs::remove_file(path).expect("it was written");
        }
    }

    #[test]
    fn every_wrong_flag_is_named() {
        let headers = file("wrong-headers", "no value");
        let flags = EntryFlags {
            url: Some("ftp://h"),
            secret_file: Some(Path::new("/nonexistent")),
            header_file: Some(&headers),
            max_in_flight: Some("-1"),
            timeout: Some("6s"),
            disabled: false,
        };
        let mistakes = of_flags("t", &flags, TenantRules::default()).expect_err("all are wrong");
        let told: String = mistakes.iter().map(|m| format!("{m}\n")).collect();
        for named in [
            "--secret-file",
            "--header-file",
            "url",
            "maxInFlight",
            "timeout",
        ] {
            assert!(told.contains(named), "{named}: {told}");
        }
        std::fs::remove_file(headers).expect("it was written");
    }
}
