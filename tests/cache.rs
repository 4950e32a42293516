//! `--cache`: compiled components are kept, and used by the next start.

use std::fs;
use std::path::Path;

use crate::harness::Serve;
use crate::harness::command::sockserve;
use crate::harness::control::refusal;
use crate::harness::guests::echo_blocking;
use crate::harness::scratch::Scratch;

/// The compiled components in a cache. Their names are made of what they depend
/// on.
fn compiled(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut places = vec![directory.to_owned()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                places.push(entry.path());
            } else if !name.contains('.') {
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn a_known_component_is_not_compiled_again() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let mut found = Vec::new();
    for _ in 0..2 {
        let server = Serve::guest(echo_blocking, "threaded")
            .args(["--cache".as_ref(), cache.as_os_str()])
            .start();
        let mut client = server.connect();
        client.check_echo("cached?\n");
        found.push(compiled(&cache));
    }
    assert_eq!(found[0].len(), 1);
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.path("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let args = [
        "serve",
        "builtin:echo-blocking",
        "--listen",
        "tcp://127.0.0.1:0",
    ];
    let line = refusal(&sockserve([&args[..], &["--cache", file]].concat()));
    assert!(
        line.contains("as the cache of compiled components"),
        "{line}"
    );
    assert!(line.contains(file), "{line}");
}
