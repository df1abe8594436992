//! Which file of `src` uses which: paths are followed through `use` to the file
//! that defines the item.

use super::source::{Kind, Source, Token};
use std::collections::{BTreeMap, BTreeSet};

/// Files by the module that each is, `kafka::session` and so on; the crate is "".
pub struct Graph {
    modules: BTreeMap<String, Module>,
}

#[derive(Default)]
struct Module {
    path: String,
    /// Where each name that a `use` brings in comes from.
    imports: BTreeMap<String, Vec<String>>,
    children: BTreeSet<String>,
    /// All paths in its code, from the crate.
    paths: Vec<Vec<String>>,
}

impl Graph {
    pub fn new(sources: &[Source]) -> Self {
        let mut modules = BTreeMap::new();
        let of_crate = sources.iter().filter(|s| s.path.starts_with("src/"));
        for source in of_crate.filter(|s| !s.is_test() && s.path != "src/main.rs") {
            let name = module_name(&source.path);
            modules.insert(name.clone(), Module::new(&name, source));
        }
        Self { modules }
    }

    /// Each file with the files that it uses. A file that uses what its own
    /// parent module defines is not told: the two are one module.
    pub fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut arrows = BTreeMap::new();
        for (name, module) in &self.modules {
            let used = module.paths.iter().filter_map(|path| self.home(path, 8));
            let others = used.filter(|home| home != name && !is_inside(name, home));
            let files = others.map(|home| self.modules[&home].path.as_str());
            arrows.insert(module.path.as_str(), files.collect());
        }
        arrows
    }

    /// The module that defines the item of a path.
    fn home(&self, path: &[String], steps: usize) -> Option<String> {
        let mut module = String::new();
        for (at, name) in path.iter().enumerate() {
            let here = self.modules.get(&module)?;
            if here.children.contains(name) {
                module = joined(&module, name);
                continue;
            }
            return match here.imports.get(name) {
                Some(from) if steps > 0 => {
                    let whole: Vec<String> = from.iter().chain(&path[at + 1..]).cloned().collect();
                    self.home(&whole, steps - 1).or(Some(module))
                }
                _ => Some(module),
            };
        }
        self.modules.contains_key(&module).then_some(module)
    }
}

impl Module {
    fn new(name: &str, source: &Source) -> Self {
        let mut module = Self {
            path: source.path.clone(),
            ..Self::default()
        };
        for part in source.code.windows(3) {
            if part[0].is("mod") && part[2].is(";") {
                module.children.insert(part[1].text.clone());
            }
        }
        let is_root = |word: &str| {
            ["crate", "super", "self"].contains(&word) || module.children.contains(word)
        };
        for used in used_paths(&source.code, is_root) {
            let Some(path) = module.start_crate(name, &used.path) else {
                continue;
            };
            if used.in_use {
                module.imports.insert(used.name, path.clone());
            }
            module.paths.push(path);
        }
        module
    }

    /// A path from the crate's root; none where it is another crate's.
    fn start_crate(&self, name: &str, path: &[String]) -> Option<Vec<String>> {
        let here: Vec<String> = name.split("::").map(str::to_owned).collect();
        let here: &[String] = if name.is_empty() { &[] } else { &here };
        let ups = path.iter().take_while(|step| *step == "super").count();
        let first = path.first()?;
        if ups > 0 {
            let base = here.len().checked_sub(ups)?;
            return Some([&here[..base], &path[ups..]].concat());
        }
        match first.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([here, &path[1..]].concat()),
            child if self.children.contains(child) => Some([here, path].concat()),
            _ => None,
        }
    }
}

/// A path that code names.
pub struct UsedPath {
    pub path: Vec<String>,
    /// The name that it has here.
    pub name: String,
    pub in_use: bool,
    pub line: usize,
}

/// All paths that code names in `use` items, and elsewhere those that begin with a root.
pub fn used_paths(code: &[Token], is_root: impl Fn(&str) -> bool) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let in_use = code[at].is("use");
        let inside = at > 0 && code[at - 1].is("::");
        let followed = code.get(at + 1).is_some_and(|next| next.is("::"));
        let is_path = code[at].kind == Kind::Word && followed && !inside && is_root(&code[at].text);
        if !in_use && !is_path {
            at += 1;
            continue;
        }
        let start = at + usize::from(in_use);
        let mut reader = Reader {
            code: &code[start..],
            at: 0,
            found: Vec::new(),
        };
        reader.tree(&[]);
        let line = code[at].line;
        found.extend(reader.found.into_iter().map(|(path, name)| UsedPath {
            path,
            name,
            in_use,
            line,
        }));
        at = start + reader.at.max(1);
    }
    found
}

/// Reads a path or a tree of paths, as after `use`.
struct Reader<'a> {
    code: &'a [Token],
    at: usize,
    /// Each path with the name that it has here.
    found: Vec<(Vec<String>, String)>,
}

impl Reader<'_> {
    fn tree(&mut self, before: &[String]) {
        let mut path = before.to_vec();
        while let Some(token) = self.code.get(self.at) {
            if token.is("{") {
                self.at += 1;
                self.list(&path);
                return;
            }
            if token.kind != Kind::Word && !token.is("*") {
                if path.len() == before.len() {
                    return;
                }
                // Type arguments end the path.
                break;
            }
            let is_itself = token.is("self") && !path.is_empty();
            if !is_itself && !token.is("*") {
                path.push(token.text.clone());
            }
            self.at += 1;
            if !self.code.get(self.at).is_some_and(|next| next.is("::")) {
                break;
            }
            self.at += 1;
        }
        let mut named = path.last().cloned().unwrap_or_default();
        if self.code.get(self.at).is_some_and(|next| next.is("as")) {
            named = self.code[self.at + 1].text.clone();
            self.at += 2;
        }
        self.found.push((path, named));
    }

    fn list(&mut self, before: &[String]) {
        while let Some(token) = self.code.get(self.at) {
            if token.is("}") {
                self.at += 1;
                return;
            }
            if token.is(",") {
                self.at += 1;
                continue;
            }
            let start = self.at;
            self.tree(before);
            if self.at == start {
                return;
            }
        }
    }
}

fn module_name(path: &str) -> String {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inside = inside.trim_end_matches("/mod");
    match inside {
        "lib" => String::new(),
        other => other.replace('/', "::"),
    }
}

fn joined(module: &str, child: &str) -> String {
    match module {
        "" => child.to_owned(),
        module => format!("{module}::{child}"),
    }
}

/// Whether a module lies inside another one.
fn is_inside(module: &str, outer: &str) -> bool {
    outer.is_empty() || module.starts_with(&format!("{outer}::"))
}

/// Each folder with the folders beside it that its files use.
pub fn folders<'a>(
    arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let folder = |file: &'a str| file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, used) in arrows {
        let others = used.iter().map(|other| folder(other));
        let beside = |other: &&str| !other.starts_with(folder(file)) && !file.starts_with(*other);
        let others = others.filter(beside);
        found.entry(folder(file)).or_default().extend(others);
    }
    found
}

/// The circles: sets of files, or of folders, of which each reaches each.
pub fn circles(arrows: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Vec<String>> {
    let reached = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = arrows[from].iter().copied().collect();
        while let Some(file) = next.pop() {
            if seen.insert(file) {
                next.extend(arrows[file].iter().copied());
            }
        }
        seen
    };
    let all: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|f| (*f, reached(f))).collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for file in arrows.keys() {
        let in_circle = |other: &&&str| all[file].contains(**other) && all[**other].contains(file);
        let circle: Vec<String> = arrows
            .keys()
            .filter(in_circle)
            .map(|f| (*f).to_owned())
            .collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[test]
fn a_circle_is_found_through_a_re_export_and_a_line_is_none() {
    let source = |path: &str, code: &str| Source::new(path.to_owned(), code.to_owned());
    let sources = |b: &str| {
        vec![
            source("src/lib.rs", "pub mod x;"),
            source("src/x/mod.rs", "mod a;\nmod b;\npub use a::{A, C as D};"),
            source(
                "src/x/a.rs",
                "use super::b::B;\npub struct A;\npub struct C;",
            ),
            source("src/x/b.rs", b),
        ]
    };
    let circles_of = |b: &str| circles(&Graph::new(&sources(b)).arrows());
    assert!(circles_of("pub struct B;").is_empty());
    let circle = vec![vec!["src/x/a.rs".to_owned(), "src/x/b.rs".to_owned()]];
    assert_eq!(circles_of("use super::D;\npub struct B;"), circle);
    assert_eq!(circles_of("fn f() { crate::x::A::new() }"), circle);
    assert_eq!(circles_of("fn f() { crate::x::A::<u8>::new() }"), circle);
    assert_eq!(circles_of("fn f() { g::<crate::x::A>() }"), circle);
    assert!(circles_of("#[cfg(test)]\nmod tests {\n    use super::super::A;\n}").is_empty());
}
