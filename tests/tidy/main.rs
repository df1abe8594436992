//! The rules of the project that a program can check, over its sources and its
//! texts. Rules are data; a breach has a file, a line and a rule.
//!
//! `cargo test --test tidy -- --nocapture counts` prints how many breaches of
//! each kind there are.

mod borders;
mod graph;
mod rules;
mod shape;
mod source;
mod words;

use graph::Graph;
use source::{Kind, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Texts that are not ours, or that are data.
const NOT_OURS: &[&str] = &[
    "LICENSE",
    "Cargo.lock",
    "src/http/reachable/iana-ipv4.txt",
    "src/http/reachable/iana-ipv6.txt",
    "tests/contract/",
    "tests/it/deploy/package-lock.json",
    "tests/it/grafana/schema.json",
    "tests/it/verifiers/package-lock.json",
];

/// The number of look-ups of a partition in `src/engine`, of pairs of enums that share
/// variants, and of type names of several files of `src`. None may grow.
const LOOK_UPS_MAX: usize = 2;
const ENUM_PAIRS_MAX: usize = 3;
const NAMES_OF_SEVERAL_MAX: usize = 7;

/// A breach of a rule.
pub struct Breach {
    path: String,
    line: usize,
    text: String,
}

impl Breach {
    fn new(path: &str, line: usize, text: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            text,
        }
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// The repository: its Rust sources and all its texts.
struct Tree {
    sources: Vec<Source>,
    /// Each text with its path, the sources included.
    texts: Vec<(String, String)>,
}

impl Tree {
    fn read() -> Self {
        let root = root();
        let mut texts = Vec::new();
        for name in rules::TOP {
            read_all(&root.join(name), &root, &mut texts);
        }
        let rust = texts.iter().filter(|(path, _)| path.ends_with(".rs"));
        let sources = rust.map(|(path, text)| Source::new(path.clone(), text.clone()));
        Self {
            sources: sources.collect(),
            texts,
        }
    }

    /// The breaches of each kind.
    fn breaches(&self) -> BTreeMap<&'static str, Vec<Breach>> {
        let sources = || self.sources.iter().filter(|source| !source.is_test());
        let texts = || self.texts.iter();
        let words = texts().flat_map(|(path, text)| words::banned(path, text));
        let forbidden = texts().flat_map(|(path, text)| borders::forbidden(path, text));
        BTreeMap::from([
            ("borders", sources().flat_map(borders::breaches).collect()),
            ("circles", self.circles()),
            (
                "documentation",
                sources().flat_map(shape::undocumented).collect(),
            ),
            ("forbidden", forbidden.collect()),
            (
                "long files",
                sources().filter_map(shape::long_file).collect(),
            ),
            (
                "long functions",
                sources().flat_map(shape::long_functions).collect(),
            ),
            (
                "long sentences",
                sources().flat_map(words::long_sentences).collect(),
            ),
            ("words", words.collect()),
        ])
    }

    fn circles(&self) -> Vec<Breach> {
        let graph = Graph::new(&self.sources);
        let arrows = graph.arrows();
        let mut circles = graph::circles(&arrows);
        circles.extend(graph::circles(&graph::folders(&arrows)));
        let breach = |files: &Vec<String>| {
            let text = format!("a circle of imports: {}", files.join(" "));
            Breach::new(&files[0], 1, text)
        };
        circles.iter().map(breach).collect()
    }
}

/// The repository's folder.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// Adds all texts under a path.
fn read_all(path: &Path, root: &Path, into: &mut Vec<(String, String)>) {
    let name = path.strip_prefix(root).expect("inside the repository");
    let name = name.to_str().expect("plain names").to_owned();
    let left_out = ["target", ".git"].contains(&name.as_str())
        || NOT_OURS.iter().any(|place| name.starts_with(place));
    if left_out {
        return;
    }
    if path.is_dir() {
        let entries = std::fs::read_dir(path).expect("a folder of the repository");
        let mut paths: Vec<_> = entries.map(|e| e.expect("readable").path()).collect();
        paths.sort();
        for path in paths {
            read_all(&path, root, into);
        }
    } else if let Ok(text) = std::fs::read_to_string(path) {
        // An image is no text, and some names are not there.
        into.push((name, text));
    }
}

#[test]
fn the_tree_keeps_the_rules() {
    let tree = Tree::read();
    let mut report = String::new();
    for (kind, breaches) in tree.breaches() {
        for breach in &breaches {
            report += &format!("{kind}: {breach}\n");
        }
    }
    assert!(report.is_empty(), "breaches:\n{report}");
}

/// Checks that no count grows, and prints how many breaches there are. A path in `TIDY`
/// prints those under it.
#[test]
fn counts() {
    let tree = Tree::read();
    let of_crate = || tree.sources.iter().filter(|s| s.path.starts_with("src/"));
    let lines: usize = of_crate().map(|s| s.text.lines().count()).sum();
    println!("lines of src with tests: {lines}");
    let without_tests = of_crate().filter(|s| !s.is_test()).map(|s| s.lines);
    println!(
        "lines of src without tests: {}",
        without_tests.sum::<usize>()
    );
    let (look_ups, pairs) = (look_ups(&tree.sources), pairs(&tree.sources));
    println!("look-ups in src/engine: {look_ups}");
    println!("pairs of enums that share variants: {}", pairs.len());
    let twice = names_of_several(&tree.sources);
    println!("type names of several files of src: {}", twice.len());
    let shown = std::env::var("TIDY").ok();
    let shown: Vec<&str> = shown.iter().flat_map(|paths| paths.split(',')).collect();
    for (kind, breaches) in tree.breaches() {
        let in_crate = breaches.iter().filter(|b| b.is_under(&["src/"])).count();
        println!("{kind}: {} ({in_crate} in src)", breaches.len());
        for breach in breaches.iter().filter(|b| b.is_under(&shown)) {
            println!("  {breach}");
        }
    }
    if !shown.is_empty() {
        println!("{pairs:#?}\n{twice:#?}");
    }
    assert!(
        look_ups <= LOOK_UPS_MAX,
        "{look_ups} look-ups of a partition"
    );
    assert!(pairs.len() <= ENUM_PAIRS_MAX, "{pairs:#?}");
    assert!(twice.len() <= NAMES_OF_SEVERAL_MAX, "{twice:#?}");
}

/// How often the engine looks up a partition.
fn look_ups(sources: &[Source]) -> usize {
    let engine = sources.iter().filter(|s| s.path.starts_with("src/engine/"));
    let engine = engine.filter(|source| !source.is_test());
    let tokens = engine.flat_map(|source| source.code.windows(3));
    let is_look_up = |three: &&[source::Token]| {
        let gets = three[1].is(".") && (three[2].is("get") || three[2].is("get_mut"));
        three[0].is("partitions") && (gets || three[1].is("["))
    };
    tokens.filter(is_look_up).count()
}

/// The variants of all enums of the crate.
fn enums(sources: &[Source]) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for source in sources
        .iter()
        .filter(|s| s.path.starts_with("src/") && !s.is_test())
    {
        for (at, token) in source.code.iter().enumerate() {
            if !token.is("enum") {
                continue;
            }
            let body = &source.code[at..at + source::end_of_item(&source.code[at..])];
            let mut depth = 0;
            let mut variants = Vec::new();
            for pair in body.windows(2) {
                depth += i32::from(["{", "(", "["].iter().any(|open| pair[0].is(open)));
                depth -= i32::from(["}", ")", "]"].iter().any(|close| pair[0].is(close)));
                let starts = pair[0].is("{") || pair[0].is(",") || pair[0].is("]");
                if depth == 1 && starts && pair[1].kind == Kind::Word {
                    variants.push(pair[1].text.clone());
                }
            }
            found.push((format!("{} {}", source.path, body[1].text), variants));
        }
    }
    found
}

/// Pairs of enums of which one has three variants of the other, or all its own.
fn pairs(sources: &[Source]) -> Vec<(String, String)> {
    let all = enums(sources);
    let mut found = Vec::new();
    for (at, (name, variants)) in all.iter().enumerate() {
        for (other, others) in &all[at + 1..] {
            let both = variants.iter().filter(|v| others.contains(v)).count();
            if both >= 3 {
                found.push((name.clone(), other.clone()));
            }
        }
    }
    found
}

/// Type names that several files of the crate define.
fn names_of_several(sources: &[Source]) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources
        .iter()
        .filter(|s| s.path.starts_with("src/") && !s.is_test())
    {
        for pair in source.code.windows(2) {
            let kinds = ["struct", "enum", "trait"];
            // A macro that makes types names none.
            if kinds.iter().any(|kind| pair[0].is(kind)) && pair[1].kind == Kind::Word {
                let files = names.entry(pair[1].text.clone()).or_default();
                files.push(source.path.clone());
            }
        }
    }
    names.retain(|_, files| files.len() > 1);
    names
}

#[test]
fn the_top_of_the_repository_has_the_allowed_names_only() {
    for entry in std::fs::read_dir(root()).expect("the repository") {
        let name = entry.expect("readable").file_name();
        let name = name.to_str().expect("plain names");
        assert!(
            rules::TOP.contains(&name),
            "{name}: not a name for the top of the repository"
        );
    }
}
