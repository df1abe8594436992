//! The rules of the house that a program can check, over the sources: who may
//! know whom, and what has one home. Rules are data; a breach is told with
//! file, line and rule.

use std::fmt::Write as _;
use std::path::Path;

/// Words that may stand in some places only.
struct Home {
    rule: &'static str,
    words: &'static [&'static str],
    /// Where the rule holds.
    under: &'static [&'static str],
    /// Where the words are at home all the same.
    except: &'static [&'static str],
}

const HOMES: &[Home] = &[
    Home {
        rule: "only src/clock.rs reads clocks",
        words: &["Instant::now", "SystemTime", "clock_gettime"],
        under: &["src/"],
        except: &["src/clock.rs"],
    },
    Home {
        rule: "only src/config reads environment and files",
        words: &["std::env", "std::fs", "env::var", "tokio::fs", "File::open"],
        under: &["src/"],
        except: &["src/config/", "src/main.rs"],
    },
    Home {
        rule: "src/main.rs takes the command's arguments and nothing else of the environment",
        words: &["std::fs", "env::var", "env::vars", "File::open"],
        under: &["src/main.rs"],
        except: &[],
    },
    Home {
        rule: "only src/runner.rs, the demo, and the pages on their own runtime spawn",
        words: &[
            "thread::spawn",
            "tokio::spawn",
            "spawn_local",
            "spawn_blocking",
            "thread::Builder",
        ],
        under: &["src/"],
        except: &["src/runner.rs", "src/demo", "src/admin/mod.rs"],
    },
    Home {
        rule: "only src/telemetry/metrics.rs names metrics",
        words: &["\"ringback_"],
        under: &["src/"],
        except: &["src/telemetry/metrics.rs"],
    },
    Home {
        rule: "only src/model/headers.rs, src/http, and the demo and receive as tenants name headers",
        words: &["\"ringback-", "\"webhook-"],
        under: &["src/"],
        except: &[
            "src/model/headers.rs",
            "src/http/",
            "src/demo/",
            "src/receive/",
        ],
    },
    Home {
        rule: "engine and model are free of async, IO, chance, logging and locks",
        words: &[
            "async",
            "await",
            "tokio",
            "tracing",
            "rand",
            "rdkafka",
            "reqwest",
            "prometheus",
            "println",
            "eprintln",
            "Mutex",
            "RwLock",
            "Atomic",
            "std::io",
            "std::net",
            "std::thread",
        ],
        under: &["src/engine/", "src/model/"],
        except: &[],
    },
    Home {
        rule: "no unwrap: expect(\"why it cannot happen\")",
        words: &[".unwrap()"],
        under: &["src/"],
        except: &[],
    },
    Home {
        rule: "nothing is left for later",
        words: &[
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("todo", "!"),
        ],
        under: &["src/", "tests/"],
        except: &[],
    },
    Home {
        rule: "no test is skipped",
        words: &[concat!("#[igno", "re")],
        under: &["src/", "tests/"],
        except: &[],
    },
];

/// A module of the crate and whom it may know beside itself.
struct Arrow {
    from: &'static str,
    to: &'static [&'static str],
}

const EVERYONE: &[&str] = &["*"];

const ARROWS: &[Arrow] = &[
    Arrow {
        from: "model",
        to: &[],
    },
    Arrow {
        from: "engine",
        to: &["model"],
    },
    Arrow {
        from: "kafka",
        to: &["model"],
    },
    Arrow {
        from: "http",
        // How long a connection is idle.
        to: &["model", "clock"],
    },
    Arrow {
        from: "admin",
        to: &["model"],
    },
    Arrow {
        from: "config",
        to: &["model"],
    },
    Arrow {
        from: "telemetry",
        to: &["model"],
    },
    Arrow {
        from: "clock",
        to: &["model"],
    },
    Arrow {
        from: "shutdown",
        to: &[],
    },
    Arrow {
        from: "cli",
        to: &["config"],
    },
    Arrow {
        from: "runner",
        to: EVERYONE,
    },
    Arrow {
        from: "commands",
        to: EVERYONE,
    },
    Arrow {
        from: "receive",
        to: &["clock", "http", "model", "shutdown"],
    },
    Arrow {
        from: "demo",
        to: EVERYONE,
    },
    Arrow {
        from: "lib",
        to: EVERYONE,
    },
    Arrow {
        from: "main",
        to: &["cli", "commands", "config", "runner"],
    },
];

/// The longest file, its tests not counted.
const LINES_MAX: usize = 600;

/// What may lie at the top of the repository; `target` and `.git` are not in it.
const TOP: &[&str] = &[
    ".ci",
    ".clippy.toml",
    ".dockerignore",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "deploy",
    "docker-compose.yml",
    "src",
    "target",
    "tests",
];

/// A file's code: lines with their numbers, without comments and tests.
struct Source {
    path: String,
    text: String,
    code: Vec<(usize, String)>,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let mut code = Vec::new();
        let mut in_test = false;
        for (index, line) in text.lines().enumerate() {
            in_test |= line.starts_with("#[cfg(test)]");
            if !in_test {
                code.push((index + 1, without_comment(line)));
            } else if line == "}" || (line.starts_with("mod ") && line.ends_with(';')) {
                in_test = false;
            }
        }
        Self { path, text, code }
    }

    /// The crate's module that this file belongs to.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.trim_end_matches(".rs"))
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    fn is_test(&self) -> bool {
        let in_tests = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        self.path.starts_with("src/") && in_tests
    }
}

/// The line up to a comment that is not inside a string.
fn without_comment(line: &str) -> String {
    let mut in_string = false;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if before != '\\' && before != '\'' => in_string = !in_string,
            '/' if before == '/' && !in_string => return line[..at - 1].to_owned(),
            _ => {}
        }
        before = if before == '\\' && c == '\\' { ' ' } else { c };
    }
    line.to_owned()
}

/// Whether a word stands alone in a line.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let open_start = word.starts_with(|c: char| c.is_alphanumeric());
    let open_end = word.ends_with(|c: char| c.is_lowercase());
    line.match_indices(word).any(|(at, _)| {
        let before = open_start && is_part(line[..at].chars().next_back());
        let after =
            open_end && !word.starts_with('"') && is_part(line[at + word.len()..].chars().next());
        !before && !after
    })
}

/// The modules that a text names after `root` (`crate::` or `ringback::`).
fn named_modules(code: &str, root: &str) -> Vec<String> {
    let ident = |text: &str| -> String {
        let is_ident = |c: &char| c.is_alphanumeric() || *c == '_';
        text.trim_start().chars().take_while(is_ident).collect()
    };
    let mut modules = Vec::new();
    for (at, _) in code.match_indices(root) {
        let alone = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &code[at + root.len()..];
        if !alone {
            continue;
        }
        let Some(list) = rest.strip_prefix('{') else {
            modules.push(ident(rest));
            continue;
        };
        let mut depth = 1;
        modules.push(ident(list));
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => modules.push(ident(&list[at + 1..])),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

/// All breaches of one file, each as `file:line: rule: what`.
fn breaches(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let path = &source.path;
    if !source.text.starts_with("//!") {
        found.push(format!("{path}:1: a file opens with //!"));
    }
    if source.code.len() > LINES_MAX {
        let lines = source.code.len();
        found.push(format!(
            "{path}:{lines}: a file has at most {LINES_MAX} lines"
        ));
    }
    for (number, line) in &source.code {
        for home in HOMES {
            let applies = source.is_under(home.under) && !source.is_under(home.except);
            let word = home.words.iter().find(|word| has_word(line, word));
            if let (true, Some(word)) = (applies, word) {
                found.push(format!("{path}:{number}: {}: {word}", home.rule));
            }
        }
    }
    let mut wrong = wrong_arrows(source);
    found.append(&mut wrong);
    found
}

fn wrong_arrows(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else {
        return Vec::new();
    };
    let path = &source.path;
    let Some(arrow) = ARROWS.iter().find(|arrow| arrow.from == module) else {
        return vec![format!(
            "{path}:1: who may {module} know? It has no line in ARROWS"
        )];
    };
    if arrow.to == EVERYONE {
        return Vec::new();
    }
    let mut found = Vec::new();
    let lines: Vec<&str> = source.code.iter().map(|(_, line)| line.as_str()).collect();
    let root = if module == "main" {
        "ringback::"
    } else {
        "crate::"
    };
    for (index, (number, _)) in source.code.iter().enumerate() {
        // A list in braces may go on over the next lines.
        let open = lines[index].trim_end().ends_with(&format!("{root}{{"));
        let reach = if open {
            lines.len().min(index + 20)
        } else {
            index + 1
        };
        let code = lines[index..reach].concat();
        for known in named_modules(&code, root) {
            if known != module && !arrow.to.contains(&known.as_str()) {
                found.push(format!("{path}:{number}: {module} may not know {known}"));
            }
        }
    }
    found
}

fn read_all(folder: &Path, root: &Path, into: &mut Vec<Source>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder of the repository")
        .map(|entry| entry.expect("readable").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            read_all(&path, root, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let name = path.strip_prefix(root).expect("inside the repository");
            let text = std::fs::read_to_string(&path).expect("text");
            let name = name.to_str().expect("plain names").replace('\\', "/");
            into.push(Source::new(name, text));
        }
    }
}

#[test]
fn the_sources_keep_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    read_all(&root.join("src"), root, &mut sources);
    read_all(&root.join("tests"), root, &mut sources);
    let checked = sources.iter().filter(|source| !source.is_test());
    let found: Vec<String> = checked.flat_map(breaches).collect();
    assert!(
        found.is_empty(),
        "{} breaches:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_top_of_the_repository_has_the_allowed_names_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root).expect("the repository") {
        let name = entry.expect("readable").file_name();
        let name = name.to_str().expect("plain names");
        assert!(
            TOP.contains(&name),
            "{name}: not a name for the top of the repository"
        );
    }
}

/// The breaches of a made-up file.
#[track_caller]
fn check(path: &str, code: &str, expected: &[&str]) {
    let mut text = String::new();
    writeln!(text, "//! A file.\n{code}").expect("strings take all");
    let found = breaches(&Source::new(path.to_owned(), text));
    assert_eq!(found, expected);
}

#[test]
fn a_breach_is_told_with_file_line_and_rule() {
    check(
        "src/engine/x.rs",
        "use crate::kafka::Consumer;",
        &["src/engine/x.rs:2: engine may not know kafka"],
    );
    check(
        "src/http/x.rs",
        "use crate::{\n    model::call,\n    telemetry::{a, b},\n};",
        &["src/http/x.rs:2: http may not know telemetry"],
    );
    check(
        "src/kafka/x.rs",
        "let now = Instant::now();",
        &["src/kafka/x.rs:2: only src/clock.rs reads clocks: Instant::now"],
    );
    check(
        "src/engine/x.rs",
        "async fn x() {}",
        &[
            "src/engine/x.rs:2: engine and model are free of async, IO, chance, logging and locks: async",
        ],
    );
    check(
        "src/admin/x.rs",
        "let name = \"ringback_lag_records\"; x.unwrap();",
        &[
            "src/admin/x.rs:2: only src/telemetry/metrics.rs names metrics: \"ringback_",
            "src/admin/x.rs:2: no unwrap: expect(\"why it cannot happen\"): .unwrap()",
        ],
    );
}

#[test]
fn comments_tests_and_homes_are_no_breach() {
    check("src/kafka/x.rs", "// Instant::now", &[]);
    check("src/clock.rs", "let now = clock_gettime();", &[]);
    check(
        "src/http/x.rs",
        "const A: &str = \"ringback-attempt\";\n#[cfg(test)]\nmod tests {\n    use crate::kafka;\n}",
        &[],
    );
    check("src/model/x.rs", "let operand = brand;", &[]);
    check("src/runner.rs", "use crate::kafka;\ntokio::spawn(x);", &[]);
}
