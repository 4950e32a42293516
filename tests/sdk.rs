//! The SDK as a stranger has it: the examples, each in a folder of its own with a copy of
//! the SDK in it, built and tested by their own commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::command::run_within;

/// How long one example may take: all that it needs is compiled, twice.
const COMPILING: Duration = Duration::from_secs(300);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Copies a folder. What a link leads to is copied in its place.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

#[test]
fn each_example_builds_and_serves_outside_of_the_repository() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    for contract in [
        "blocking",
        "evented",
        "concurrent",
        "datagram",
        "datagram-concurrent",
    ] {
        // The folder stays, so that the next run compiles less.
        let folder = place.join(contract);
        let _ = fs::remove_dir_all(&folder);
        copy(&project("examples/rust").join(contract), &folder);
        copy(
            &project("guests/sdk"),
            &folder.join(".sockserve/sockserve-handler"),
        );
        // The versions that are there already.
        copy(&project("guests/Cargo.lock"), &folder.join("Cargo.lock"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--offline"]).current_dir(&folder);
        cargo.env("SOCKSERVE", env!("CARGO_BIN_EXE_sockserve"));
        cargo.env("CARGO_TARGET_DIR", place.join("target"));
        let outcome = run_within(&mut cargo, COMPILING);
        assert_eq!(outcome.status, Some(0), "{contract}: {outcome:#?}");
        let passed = outcome
            .stdout
            .iter()
            .any(|line| line.starts_with("test each_") && line.ends_with("... ok"));
        assert!(passed, "{contract}: {outcome:#?}");
    }
}

#[test]
fn the_sdk_has_the_contracts_of_the_host() {
    let (ours, its) = (project("wit"), project("guests/sdk/wit"));
    let mut count = 0;
    for folder in ["", "deps"] {
        for entry in fs::read_dir(ours.join(folder)).unwrap() {
            let name = Path::new(folder).join(entry.unwrap().file_name());
            if ours.join(&name).is_file() {
                let text = |root: &Path| fs::read_to_string(root.join(&name)).unwrap();
                assert_eq!(text(&its), text(&ours), "{}", name.display());
                count += 1;
            }
        }
    }
    assert!(count > 10);
}
