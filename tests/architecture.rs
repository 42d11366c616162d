//! The direction of imports, read off the sources: data and layers at the bottom, the command line on top.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each module may name of the others. A name with `::` allows that item alone.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("random", &[]),
    ("files", &[]),
    ("layers", &[]),
    ("device", &["layers"]),
    ("scene", &["random"]),
    ("picture", &["files"]),
    (
        "config",
        &[
            "layers",
            "train::Schedule",
            "scene::Disturbance",
            "scene::GRID_PERIOD",
            "scene::OptionError",
            "scene::Recipe",
            "scene::SceneOptions",
        ],
    ),
    ("model", &["config", "layers", "random"]),
    ("train", &["config", "layers", "model", "random", "files"]),
    ("evaluate", &["config::Binarisation", "model", "random"]),
    ("generate", &["config", "evaluate", "model", "random"]),
    ("run", &["config", "device", "evaluate", "files", "layers", "model", "random", "scene", "train"]),
    // Pages alone, and a link.
    ("guide", &["layers"]),
    // The program: a crate of its own that sees the library from outside.
    ("cli", &[]),
];

/// Modules that must stay usable, and testable, without a tensor library.
const WITHOUT_TENSORS: [&str; 4] = ["random", "files", "scene", "picture"];

struct Source {
    /// Relative to `src`, with `/`.
    path: String,
    /// Without comments; line numbers as in the file.
    lines: Vec<String>,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Steps from the crate's root to this file's module.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    fn root(&self) -> bool {
        matches!(self.path.as_str(), "lib.rs" | "main.rs")
    }

    /// Paths that start with `prefix`: (line from 1, what follows it).
    fn paths<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        self.lines.iter().enumerate().flat_map(move |(i, line)| {
            let whole = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            let starts = line.match_indices(prefix).filter(move |(at, _)| whole(*at));
            starts.map(move |(at, _)| (i + 1, &line[at + prefix.len()..]))
        })
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a source file can be read");
        let code = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_string() };
        let relative = path.strip_prefix(&root).expect("a path below src");
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        Source { path: parts.join("/"), lines: text.lines().map(code).collect() }
    };
    let sources: Vec<Source> = found.iter().map(read).collect();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

/// The leading identifier of a path.
fn identifier(path: &str) -> &str {
    path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

#[test]
fn imports_point_downwards() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.into_iter().collect();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !s.root()) {
        let module = source.module();
        let Some(allowed) = rules.get(module) else { panic!("{}: the module {module} has no rule here", source.path) };
        for (line, path) in source.paths("crate::") {
            let other = identifier(path);
            let item = path.strip_prefix(other).and_then(|rest| rest.strip_prefix("::")).map(identifier);
            let full = format!("{other}::{}", item.unwrap_or_default());
            let rule = allowed.iter().find(|rule| **rule == other || **rule == full);
            match rule {
                Some(rule) => {
                    used.insert((module.to_string(), *rule));
                }
                None if other == module => {}
                None => wrong.push(format!("src/{}:{line} may not use crate::{full}", source.path)),
            }
        }
        // Nothing climbs to the root by `super` and down again. Modules inside a file (its tests) are one step deeper.
        let tests = source.lines.iter().position(|line| line.contains("#[cfg(test)]")).unwrap_or(usize::MAX);
        for (line, path) in source.paths("super::") {
            let steps = 1 + path.split("::").take_while(|part| *part == "super").count();
            let most = source.depth() - 1 + usize::from(line > tests);
            if steps > most {
                wrong.push(format!("src/{}:{line} climbs out of {module}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A permission that nothing needs would let the next import slip in unseen.
    for (module, allowed) in MAY_USE {
        for rule in allowed {
            assert!(
                used.contains(&(module.to_string(), *rule)),
                "{module} no longer uses {rule}: take it off the list"
            );
        }
    }
}

#[test]
fn only_the_command_line_sees_the_crate_from_outside() {
    for source in sources() {
        let outside = source.paths("multi_entity_vae").next();
        assert!(source.module() == "cli" || outside.is_none(), "src/{} names the crate", source.path);
        let cli = source.paths("cli::").next();
        assert!(source.path == "main.rs" || source.module() == "cli" || cli.is_none(), "src/{} uses cli", source.path);
        let prints = source.paths("println!").chain(source.paths("eprintln!")).chain(source.paths("dbg!")).next();
        assert!(source.module() == "cli" || prints.is_none(), "src/{} prints", source.path);
    }
}

#[test]
fn some_modules_know_no_tensors() {
    for source in sources().iter().filter(|s| WITHOUT_TENSORS.contains(&s.module())) {
        for library in ["candle_core", "candle_nn"] {
            assert!(source.paths(library).next().is_none(), "src/{} uses {library}", source.path);
        }
    }
}

#[test]
fn schedules_import_nothing_so_that_configurations_may_hold_them() {
    let sources = sources();
    let schedule = sources.iter().find(|s| s.path == "train/schedule.rs").expect("train/schedule.rs");
    assert!(schedule.paths("crate::").next().is_none());
}

#[test]
fn unsafe_code_is_where_the_guide_lists_it() {
    let unsafe_files: BTreeSet<String> = sources()
        .into_iter()
        .filter(|s| s.lines.iter().any(|line| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "unsafe")))
        .map(|s| s.path)
        .collect();
    let expected = ["device/cuda.rs", "layers/gpu/cuda.rs", "layers/gpu/record.rs", "layers/product.rs", "main.rs"];
    assert_eq!(unsafe_files.iter().collect::<Vec<_>>(), expected);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/reliability.md");
    let page = std::fs::read_to_string(page).expect("the page reliability");
    for file in unsafe_files {
        assert!(page.contains(&format!("`src/{file}`")), "reliability.md does not say why {file} is unsafe");
    }
}
