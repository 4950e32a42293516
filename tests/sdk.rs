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

/// A project with this code, built.
fn built(name: &str, contract: &str, code: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let folder = place.join(name);
    let _ = fs::remove_dir_all(&folder);
    let new = ["new".as_ref(), folder.as_os_str(), "--lang=rust".as_ref()];
    let contract = ["--contract".as_ref(), contract.as_ref()];
    sockserve(new.into_iter().chain(contract)).printed();
    fs::write(folder.join("src/lib.rs"), code).unwrap();
    fs::copy(project("guests/Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--offline"]);
    cargo.args(["--target", "wasm32-wasip2"]);
    cargo.current_dir(&folder);
    cargo.env("CARGO_TARGET_DIR", place.join("target"));
    let outcome = run_within(&mut cargo, COMPILING);
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    place.join(format!("target/wasm32-wasip2/release/{name}.wasm"))
}

/// The example of the module `asynchat` in its documentation, as a component.
#[test]
fn the_asynchat_of_the_documentation_serves() {
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
    let server = Serve::component(built("asynchat", "evented", &example)).start();
    let mut client = server.connect();
    client.send("one\r\n\r\nthr");
    client.expect("3\r\n0\r\n");
    client.send("ee\r\n");
    client.expect("5\r\n");
    client.finish_sending();
    client.expect_eof();
    server.stop().check_no_alarm();
}

/// The handlers in `docs/handlers.md`.
fn guide() -> Vec<String> {
    let guide = fs::read_to_string(project("docs/handlers.md")).unwrap();
    let blocks = guide.split("```rust\n").skip(1);
    let blocks = blocks.map(|block| block.split("```\n").next().unwrap());
    blocks.map(ToOwned::to_owned).collect()
}

#[test]
fn the_guides_handlers_are_the_templates() {
    let guide = guide();
    for contract in ["concurrent", "evented", "datagram", "datagram-concurrent"] {
        let path = format!("examples/rust/{contract}/src/lib.rs");
        let template = fs::read_to_string(project(&path)).unwrap();
        let is_there = guide.iter().any(|block| template.ends_with(block));
        assert!(is_there, "{contract}: {guide:#?}");
    }
}

/// Puts another component with the same code in the place of a component.
fn touch(component: &Path) {
    let mut bytes = fs::read(component).unwrap();
    // A custom section with a name of one byte, and one byte.
    bytes.extend([0, 3, 1, b'b', 1]);
    let unfinished = component.with_extension("unfinished");
    fs::write(&unfinished, bytes).unwrap();
    fs::rename(&unfinished, component).unwrap();
}

#[test]
fn the_hand_over_of_the_guide_continues() {
    let code = guide().into_iter().find(|it| it.contains("HandOver"));
    let component = built("counted", "blocking", &code.unwrap());
    let server = Serve::component(&component).args(["--watch"]).start();
    let mut client = server.connect();
    client.send("one\nha");
    client.expect("1 one\n");
    touch(&component);
    server.wait_for_version(2);
    client.send("lf\n");
    client.expect("2 half\n");
    client.finish_sending();
    client.expect_eof();
    server.stop().check_no_alarm();
}

#[test]
fn the_life_cycle_of_the_guide_lets_peers_in() {
    let code = guide().into_iter().find(|it| it.contains("life_cycle"));
    let component = built("cycle", "blocking", &code.unwrap());
    let server = Serve::component(&component).start();
    let mut client = server.connect();
    client.check_echo("hello\n");
    let said = |start: String| {
        server.wait_for_log(&start, |event| {
            event.is_guest() && event.message().starts_with(&start)
        });
    };
    client.send("fail\n");
    client.expect_eof();
    said(format!("sorry, {}: ", client.local()));
    said("still here".to_owned());
    server.stop();
}

#[test]
fn the_instance_state_of_the_guide_passes_on() {
    let code = guide().into_iter().find(|it| it.contains("InstanceState"));
    let component = built("total", "evented", &code.unwrap());
    let server = Serve::component(&component).args(["--watch"]).start();
    let one = |line: &str, answer: &str| {
        let mut client = server.connect();
        client.send(line);
        client.expect(answer);
        client.finish_sending();
        client.expect_eof();
    };
    one("a\n", "1 a\n");
    touch(&component);
    server.wait_for_version(2);
    one("b\n", "2 b\n");
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
