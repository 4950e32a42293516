//! The files that are embedded in the binary, and how they are written.

use crate::text;
use anyhow::Context as _;
use std::fs;
use std::io;
use std::path::Path;

/// Each file's path in the repository, and its bytes. `host/build/templates.rs` makes it.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// The files of a folder of the repository, by their paths in it.
pub(in crate::cli) fn under(folder: &str) -> impl Iterator<Item = (&'static str, &'static [u8])> {
    FILES.iter().filter_map(move |(path, bytes)| {
        let path = path.strip_prefix(folder)?.strip_prefix('/')?;
        Some((path, *bytes))
    })
}

/// Whether there is something in this folder. One that does not exist has nothing.
pub(in crate::cli) fn has_content(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes one file, and the folders above it.
pub(in crate::cli) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", text::path(folder)))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", text::path(path)))
}

/// Removes what is in a folder, and the folder itself if `whole` says so. What cannot be
/// removed stays.
pub(in crate::cli) fn remove(folder: &Path, whole: bool) {
    if whole {
        let _ = fs::remove_dir_all(folder);
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
}
