//! The grants and properties of `deploy/security.md`, taken from the page.

use crate::support::documents;
use std::collections::BTreeMap;

/// The page.
pub const PAGE: &str = "deploy/security.md";
/// How each grant of the page starts.
const GRANT: &str =
    "kafka-acls.sh --bootstrap-server kafka-0:9092 --command-config admin.properties --add ";

/// One right of one user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The operation and the resource, for example `Read --topic call-ended`.
    pub name: String,
    /// The arguments of `kafka-acls.sh` after `--add` or `--remove`.
    pub arguments: String,
}

/// Returns the grants of each section, one for each operation.
#[track_caller]
pub fn grants() -> BTreeMap<String, Vec<Grant>> {
    let text = documents::section(PAGE, "Grants");
    let mut sections = BTreeMap::new();
    for part in text.split("\n### ").skip(1) {
        let (title, body) = part.split_once('\n').expect("a section has lines");
        let lines = body.lines().filter_map(|line| line.strip_prefix(GRANT));
        let grants: Vec<Grant> = lines.flat_map(operations).collect();
        let told = body.matches("kafka-acls.sh").count();
        assert!(
            told > 0 && told <= grants.len(),
            "{title}: a line was not read"
        );
        sections.insert(title.to_owned(), grants);
    }
    sections
}

/// Splits a line into grants of one operation each.
fn operations(line: &str) -> Vec<Grant> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut rest = Vec::new();
    let mut operations = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word {
            "--operation" => operations.push(words.next().expect("an operation")),
            other => rest.push(other),
        }
    }
    let [principal, user, resource @ ..] = &rest[..] else {
        panic!("no user: {line}");
    };
    assert_eq!(*principal, "--allow-principal");
    let resource = resource.join(" ");
    let grant = |operation| Grant {
        name: format!("{operation} {resource}"),
        arguments: format!("--allow-principal {user} --operation {operation} {resource}"),
    };
    operations.into_iter().map(grant).collect()
}

/// Returns the files of properties in the order of the page.
#[track_caller]
pub fn properties() -> Vec<String> {
    let text = documents::section(PAGE, "Log in to Kafka");
    let blocks = text.split("```properties\n").skip(1);
    let files = blocks.map(|block| block.split("```").next().unwrap_or(block).to_owned());
    files.collect()
}

/// Returns the command of the page that starts so.
#[track_caller]
pub fn command(start: &str) -> String {
    let text = documents::text(PAGE);
    let mut lines = text.lines().filter(|line| line.starts_with(start));
    lines.next().expect("the page has it").to_owned()
}
