//! A project as its user has it: made by `sockserve new`, then the commands that this
//! printed, each typed in a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::command::{run_within, sockserve};
use crate::harness::tools;

/// How long a command may take: tools come from a registry, and some are large.
const SLOW: Duration = Duration::from_secs(300);

/// Makes a project, builds it and runs its own test, which serves it over loopback. `None`
/// if `tool` is missing.
fn check(language: &str, contract: &str, tool: &str) {
    if !tools::have(tool, &["--version"]) {
        return;
    }
    let name = format!("{language}-{contract}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("projects")
        .join(&name);
    let _ = fs::remove_dir_all(&folder);
    let made = sockserve([
        "new".as_ref(),
        folder.as_os_str(),
        "--lang".as_ref(),
        language.as_ref(),
        "--contract".as_ref(),
        contract.as_ref(),
    ]);
    assert_eq!(made.status, Some(0), "{made:?}");
    let told = |what: &str| {
        let told = made
            .stdout
            .iter()
            .find_map(|line| line.trim().strip_prefix(what));
        told.unwrap_or_else(|| panic!("{what} {made:?}"))
            .trim()
            .to_owned()
    };
    typed(&folder, &told("build it:"));
    let serve = told("serve it:");
    let component: PathBuf = folder.join(serve.split(' ').nth(2).unwrap());
    assert!(component.exists(), "{serve}");
    let inspected = sockserve(["inspect".as_ref(), component.as_os_str()]);
    assert!(
        inspected.stdout.iter().any(|line| line.contains(contract)),
        "{inspected:?}"
    );
    typed(&folder, &told("test it:"));
}

/// Types a command in a folder.
#[track_caller]
fn typed(folder: &Path, command: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder);
    shell.env("SOCKSERVE", env!("CARGO_BIN_EXE_sockserve"));
    let outcome = run_within(&mut shell, SLOW);
    assert_eq!(outcome.status, Some(0), "{command}: {outcome:#?}");
}

#[test]
fn javascript_is_built_and_served() {
    check("js", "blocking", "npm");
}

#[test]
fn python_is_built_and_served() {
    for contract in ["blocking", "evented", "concurrent", "datagram"] {
        check("python", contract, "python3");
    }
}
