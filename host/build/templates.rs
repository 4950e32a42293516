//! Embeds what `sockserve wit` and `sockserve new` write: the contracts, the templates in
//! `examples/`, and the libraries that a project gets a copy of.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders, from the root of the repository. One that does not exist is empty.
const FOLDERS: [&str; 5] = ["wit", "examples", "guests/sdk", "sdk/c", "sdk/python"];

/// What builds and runs leave behind.
const PRODUCTS: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// Returns the list, as an expression of Rust: each file's path and bytes.
pub(super) fn list(root: &Path) -> String {
    let mut list = "&[".to_owned();
    for folder in FOLDERS {
        if root.join(folder).exists() {
            println!("cargo::rerun-if-changed={}", root.join(folder).display());
        }
        let mut files = Vec::new();
        walk(&root.join(folder), &mut files);
        files.sort();
        for file in files {
            let Ok(path) = file.strip_prefix(root) else {
                continue;
            };
            let path = path.to_string_lossy();
            let _ = write!(list, "({path:?}, include_bytes!({file:?})),");
        }
    }
    list.push(']');
    list
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let name = path.file_name().unwrap_or_default();
        if PRODUCTS.iter().any(|product| name == *product) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}
