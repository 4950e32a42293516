//! The SDK as a stranger has it: the projects that `sockserve new` writes, with a copy of
//! the SDK in them, built and tested by their own commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::Serve;
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

/// The example of the module `asynchat` in its documentation, as a component.
#[test]
fn the_asynchat_of_the_documentation_serves() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let folder = place.join("asynchat");
    let _ = fs::remove_dir_all(&folder);
    let new = ["new".as_ref(), folder.as_os_str(), "--lang=rust".as_ref()];
    let evented = ["--contract".as_ref(), "evented".as_ref()];
    sockserve(new.into_iter().chain(evented)).printed();
    let documented = fs::read_to_string(project("guests/sdk/src/asynchat.rs")).unwrap();
    let lines = documented
        .lines()
        .map_while(|line| line.strip_prefix("//!"));
    let lines = lines.skip_while(|line| !line.starts_with(" ```no_run"));
    let example: String = lines
        .skip(1)
        .take_while(|line| *line != " ```")
        .filter(|line| !line.starts_with(" # "))
        .flat_map(|line| [line.strip_prefix(' ').unwrap_or(line), "\n"])
        .collect();
    assert!(example.contains("impl Chat for Lengths"), "{example}");
    fs::write(folder.join("src/lib.rs"), example).unwrap();
    fs::copy(project("guests/Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--release",
        "--offline",
        "--target",
        "wasm32-wasip2",
    ]);
    cargo.current_dir(&folder);
    cargo.env("CARGO_TARGET_DIR", place.join("target"));
    let outcome = run_within(&mut cargo, COMPILING);
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    let built = place.join("target/wasm32-wasip2/release/asynchat.wasm");
    let server = Serve::component(&built).start();
    let mut client = server.connect();
    client.send("one\r\n\r\nthr");
    client.expect("3\r\n0\r\n");
    client.send("ee\r\n");
    client.expect("5\r\n");
    client.finish_sending();
    client.expect_eof();
    server.stop().check_no_alarm();
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
