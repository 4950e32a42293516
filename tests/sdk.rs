//! The SDK as a stranger has it: the projects that `sockserve new` writes, with a copy of
//! the SDK in them, built and tested by their own commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::command::{run_within, sockserve};

/// How long one example may take: all that it needs is compiled, twice.
const COMPILING: Duration = Duration::from_secs(300);

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
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
        "command",
    ] {
        // The folder stays, so that the next run compiles less.
        let folder = place.join(contract);
        let _ = fs::remove_dir_all(&folder);
        let made = sockserve([
            "new".as_ref(),
            folder.as_os_str(),
            "--lang=rust".as_ref(),
            "--contract".as_ref(),
            contract.as_ref(),
        ]);
        assert_eq!(made.status, Some(0), "{made:?}");
        // The versions that are there already.
        fs::copy(project("guests/Cargo.lock"), folder.join("Cargo.lock")).unwrap();
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
