//! The stock command line of wasmtime, to run the same programs in another host.
//!
//! The variable `WASMTIME` names the binaries, with `:` between their paths. Without it
//! `wasmtime` is looked for in `PATH`.

use std::env;
use std::path::{Path, PathBuf};

/// The binaries that there are. There may be several versions.
pub(crate) fn all() -> Vec<PathBuf> {
    if let Some(paths) = env::var_os("WASMTIME") {
        let paths: Vec<PathBuf> = env::split_paths(&paths)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        for path in &paths {
            assert!(path.is_file(), "WASMTIME: no file {}", path.display());
        }
        return paths;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).map(|directory| directory.join("wasmtime"));
    places.find(|place| place.is_file()).into_iter().collect()
}

/// Runs a test, or a part of one, with each of them. Without any, says that it is skipped.
pub(crate) fn for_each(test: &str, mut run: impl FnMut(&Path)) {
    let found = all();
    if found.is_empty() {
        println!("skipped {test}: no wasmtime CLI (set WASMTIME)");
    }
    for path in found {
        println!("{test}: {}", path.display());
        run(&path);
    }
}
