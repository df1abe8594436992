//! Which code may stand where, and which module may use which. Data only.

/// Code that may stand in some places only.
pub struct Home {
    pub rule: &'static str,
    pub words: &'static [&'static str],
    /// Where the rule holds.
    pub under: &'static [&'static str],
    /// Places under `under` where the rule does not hold.
    pub except: &'static [&'static str],
}

pub const HOMES: &[Home] = &[
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
        rule: "only src/runner, the demo, and the pages on their own runtime spawn",
        words: &[
            "thread::spawn",
            "tokio::spawn",
            "spawn_local",
            "spawn_blocking",
            "thread::Builder",
        ],
        under: &["src/"],
        except: &[
            "src/runner.rs",
            "src/runner/threads.rs",
            "src/demo",
            "src/admin/mod.rs",
        ],
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
];

/// Words that no text has, in code, comments, tests and documents, with their rule.
pub const NOWHERE: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "nothing is left for later"),
    (concat!("FIX", "ME"), "nothing is left for later"),
    (concat!("todo", "!"), "nothing is left for later"),
    (concat!("#[igno", "re"), "no test is skipped"),
];

/// A module of the crate and the modules that it may use.
pub struct Arrow {
    pub from: &'static str,
    pub to: &'static [&'static str],
}

pub const EVERYONE: &[&str] = &["*"];

pub const ARROWS: &[Arrow] = &[
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
        from: "search",
        // The offset maps, which say what became of a record.
        to: &["model", "engine"],
    },
    Arrow {
        from: "jobs",
        to: &["clock", "kafka", "model", "search"],
    },
    Arrow {
        from: "cli",
        to: &["config", "exit"],
    },
    Arrow {
        from: "exit",
        to: &[],
    },
    Arrow {
        from: "service",
        to: EVERYONE,
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
        to: &["clock", "contract", "http", "model", "shutdown"],
    },
    Arrow {
        from: "contract",
        to: &["model"],
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
        to: &["cli", "commands", "config"],
    },
];

/// What may lie at the top of the repository; `target` and `.git` are not in it.
pub const TOP: &[&str] = &[
    ".ci",
    ".clippy.toml",
    ".dockerignore",
    ".git",
    ".github",
    ".gitignore",
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
