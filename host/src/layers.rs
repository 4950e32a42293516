//! A test that holds the order of the layers: each folder uses what is below it, and
//! nothing above or beside it.
//!
//! ARCHITECTURE.md has the drawing. A new folder, or a new file beside this one, goes
//! into [`LAYERS`] or [`LEAVES`], and the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the top, each with the layers right below it. A layer may use these,
/// whatever is below them, and the leaves.
const LAYERS: [(&str, &[&str]); 15] = [
    ("cli", &["componentize", "compose", "control"]),
    ("componentize", &["component"]),
    ("compose", &["guest"]),
    ("control", &["registry"]),
    ("registry", &["service"]),
    ("service", &["dispatch", "listen"]),
    ("dispatch", &["version"]),
    ("version", &["guest"]),
    ("listen", &["admission"]),
    ("admission", &["connection"]),
    ("guest", &["component", "datagram", "sockets"]),
    ("component", &[]),
    ("datagram", &["connection"]),
    ("sockets", &["connection"]),
    ("connection", &[]),
];

/// What every layer may use. A leaf may use the leaves after it.
const LEAVES: [&str; 13] = [
    "descriptors",
    "limits",
    "memory_total",
    "contract",
    "lifecycle",
    "host_port",
    "socket_file",
    "socket_name",
    "log_queue",
    "panics",
    "aside",
    "text",
    "sync",
];

/// What is no layer: the roots of the library and of the binary, and this test.
const ROOTS: [&str; 3] = ["lib", "main", "layers"];

/// What a layer or a leaf may use.
fn allowed(layer: &str) -> BTreeSet<&'static str> {
    if let Some(at) = LEAVES.iter().position(|leaf| *leaf == layer) {
        return LEAVES[at + 1..].iter().copied().collect();
    }
    let mut allowed: BTreeSet<_> = LEAVES.into();
    let mut open = vec![layer];
    while let Some(layer) = open.pop() {
        let (_, below) = LAYERS.iter().find(|(name, _)| *name == layer).unwrap();
        allowed.extend(*below);
        open.extend(*below);
    }
    allowed
}

/// The Rust files of a folder, and of the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let found = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    found.collect()
}

/// The part of the crate that a file belongs to: a folder, or a file beside this one.
fn part_of(file: &Path, source: &Path) -> String {
    let inside = file.strip_prefix(source).unwrap();
    let first = inside.components().next().unwrap();
    let name = Path::new(first.as_os_str()).file_stem().unwrap();
    name.to_str().unwrap().to_owned()
}

/// The code without comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first name of each path in `paths`, which is what follows `use` or `crate::`: one
/// path, or several in braces.
fn first_names(paths: &str) -> Vec<String> {
    let is_in_name = |c: char| c.is_alphanumeric() || c == '_';
    let name = |path: &str| path.trim().chars().take_while(|c| is_in_name(*c)).collect();
    let Some(group) = paths.strip_prefix('{') else {
        return vec![name(paths)];
    };
    let mut depth = 0;
    let mut names = Vec::new();
    let mut begun = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(&group[begun..at]));
                begun = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

/// Which part each name comes from that `lib.rs` makes public.
fn exports(source: &Path) -> BTreeMap<String, String> {
    let code = code(&source.join("lib.rs"));
    let mut exports = BTreeMap::new();
    for statement in code.split("pub use ").skip(1) {
        let path = statement.split(';').next().unwrap();
        let part = path.split("::").next().unwrap().to_owned();
        let (_, names) = path.rsplit_once("::").unwrap();
        let path_end = path.find('{').map_or(names, |at| &path[at..]);
        for name in first_names(path_end) {
            exports.insert(name, part.clone());
        }
    }
    exports
}

#[test]
fn every_folder_uses_what_is_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let exports = exports(&source);
    assert_eq!(exports["ListenAddress"], "listen");
    let mut wrong = Vec::new();
    let mut uses = 0;
    for file in files(&source) {
        let part = part_of(&file, &source);
        if ROOTS.contains(&&*part) {
            continue;
        }
        let allowed = allowed(&part);
        let code = code(&file);
        for (at, _) in code.match_indices("crate::") {
            if code[..at].ends_with('$') {
                continue;
            }
            for name in first_names(&code[at + "crate::".len()..]) {
                uses += 1;
                let used = exports.get(&name).unwrap_or(&name);
                if *used != part && !allowed.contains(&**used) {
                    wrong.push(format!("{}: {part} uses {used} ({name})", file.display()));
                }
            }
        }
        // `super` of a folder is the crate.
        let is_top = file.parent() == Some(&source) || file.ends_with(format!("{part}/mod.rs"));
        if is_top && code.lines().any(|line| line.starts_with("use super")) {
            wrong.push(format!("{}: use super", file.display()));
        }
    }
    assert!(uses > 300, "only {uses} uses were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_of_layers_is_the_list_of_folders() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let parts: BTreeSet<_> = files(&source)
        .iter()
        .map(|file| part_of(file, &source))
        .collect();
    let layers = LAYERS.iter().map(|(name, _)| *name);
    let listed: BTreeSet<_> = layers
        .chain(LEAVES)
        .chain(ROOTS)
        .map(str::to_owned)
        .collect();
    assert_eq!(parts, listed);
    // No circle: a layer names later ones only.
    for (at, (layer, below)) in LAYERS.iter().enumerate() {
        for name in *below {
            let later = LAYERS[at + 1..].iter().any(|(later, _)| later == name);
            assert!(later, "{layer} names {name}");
        }
    }
}
