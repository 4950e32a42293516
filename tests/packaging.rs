//! `packaging/`, the manual and the completions: what the programs that read them say, where
//! they are there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::command::{run, sockserve};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;
use crate::harness::{Client, tools};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");

/// A file of `packaging/`.
fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging")
        .join(name)
}

/// The subcommands that `--help` lists.
fn subcommands() -> Vec<String> {
    let help = sockserve(["--help"]).printed();
    let mut lines = help.iter().skip_while(|line| *line != "Commands:").skip(1);
    let lines: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let names = lines.iter().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|rest| !rest.starts_with(' '));
    let names = names.map(|rest| rest.split(' ').next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// The long options that the help of a subcommand has.
fn options(command: &str) -> Vec<String> {
    let help = sockserve([command, "--help"]).printed();
    let lines = help.iter().map(|line| line.trim_start());
    let lines = lines.filter(|line| line.starts_with('-'));
    let options = lines.filter_map(|line| line.split(' ').find(|word| word.starts_with("--")));
    options.map(str::to_owned).collect()
}

/// The text of a page, with the hyphens of roff as they are read.
fn page(path: &Path) -> String {
    fs::read_to_string(path).unwrap().replace("\\-", "-")
}

#[test]
fn the_manual_has_every_command_and_every_option() {
    let scratch = Scratch::new();
    let directory = scratch.path("man");
    let printed = sockserve(["man".as_ref(), directory.as_os_str()]).printed();
    let commands = subcommands();
    assert!(commands.len() > 15, "{commands:?}");
    let names = commands.iter().map(|name| format!("sockserve-{name}.1"));
    let names: BTreeSet<_> = names.chain(["sockserve.1".to_owned()]).collect();
    let paths: BTreeSet<_> = printed.iter().map(PathBuf::from).collect();
    let expected: BTreeSet<_> = names.iter().map(|name| directory.join(name)).collect();
    assert_eq!(paths, expected);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), names.len());
    let main = page(&directory.join("sockserve.1"));
    for command in &commands {
        assert!(main.contains(&format!("sockserve-{command}(1)")), "{main}");
        let text = page(&directory.join(format!("sockserve-{command}.1")));
        let options = options(command);
        assert!(options.len() >= 4, "{options:?}");
        for option in options {
            let found = text.contains(&format!("\\fB{option}\\fR"));
            assert!(found, "no {option} in {text}");
        }
    }
    // Standard output has the first of them.
    let printed = sockserve(["man"]).printed().join("\n");
    assert_eq!(printed.replace("\\-", "-").trim_end(), main.trim_end());
    // Once more over what is there.
    sockserve(["man".as_ref(), directory.as_os_str()]).printed();
    for (program, arguments) in [
        ("man", &["--warnings", "-P", "cat", "-l"][..]),
        ("mandoc", &["-T", "lint", "-W", "error"]),
    ] {
        if !tools::have(program, &["--version"]) {
            continue;
        }
        for name in &names {
            let mut command = Command::new(program);
            command.args(arguments).arg(directory.join(name));
            let outcome = run(command.env("MANWIDTH", "80"));
            assert_eq!(outcome.status, Some(0), "{name}: {outcome:#?}");
            assert!(outcome.stderr.is_empty(), "{name}: {outcome:#?}");
            if program == "man" {
                assert!(outcome.stdout.len() > 20, "{name}: {outcome:#?}");
            }
        }
    }
}

#[test]
fn the_manual_is_refused_where_it_cannot_be_written() {
    let outcome = sockserve(["man", "/dev/null/here"]);
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    let said = "sockserve: cannot make the directory /dev/null/here: ";
    assert!(outcome.stderr[0].starts_with(said), "{outcome:#?}");
}

/// What bash completes after these words, the last of which is being typed.
fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let lines = format!(
        "set -eu +u; source '{}'\nCOMP_WORDS=({})\nCOMP_CWORD={last}\n_sockserve sockserve '{}' \
         '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.join(" "),
        words[last],
        words[last - 1],
    );
    run(Command::new("bash").args(["--norc", "-c", &lines])).printed()
}

#[test]
fn bash_completes_commands_and_options() {
    if !tools::have("bash", &["--version"]) {
        return;
    }
    let scratch = Scratch::new();
    let script = scratch.path("sockserve.bash");
    let printed = sockserve(["completions", "bash"]).printed().join("\n");
    fs::write(&script, printed + "\n").unwrap();
    run(Command::new("bash").arg("-n").arg(&script)).printed();
    assert_eq!(completed(&script, &["sockserve", "insp"]), ["inspect"]);
    assert_eq!(
        completed(&script, &["sockserve", "serve", "--unix-"]),
        ["--unix-mode", "--unix-group"]
    );
    for command in subcommands() {
        let words = completed(&script, &["sockserve", &command, "--"]);
        for option in options(&command) {
            assert!(
                words.contains(&option),
                "{command}: no {option} in {words:?}"
            );
        }
    }
    // It registers itself for the command.
    let lines = format!("source '{}'; complete -p sockserve", script.display());
    let registered = run(Command::new("bash").args(["--norc", "-c", &lines])).printed();
    assert!(registered[0].contains("-F _sockserve"), "{registered:?}");
}

#[test]
fn other_shells_read_their_completions() {
    let scratch = Scratch::new();
    for shell in ["zsh", "fish"] {
        let printed = sockserve(["completions", shell]).printed().join("\n");
        for command in subcommands() {
            assert!(printed.contains(&command), "{shell}: no {command}");
        }
        let script = scratch.path(shell);
        fs::write(&script, printed + "\n").unwrap();
        if tools::have(shell, &["--version"]) {
            run(Command::new(shell).arg("-n").arg(&script)).printed();
        }
    }
}

/// The units, for the binary of the tests.
fn units(scratch: &Scratch) -> [PathBuf; 2] {
    ["sockserve.service", "sockserve.socket"].map(|name| {
        let unit = fs::read_to_string(packaged(name)).unwrap();
        let path = scratch.path(name);
        fs::write(&path, unit.replace("/usr/bin/sockserve", EXE)).unwrap();
        path
    })
}

/// `systemd-analyze` with these arguments. `None` if it is not there.
fn systemd_analyze(arguments: &[&str]) -> Option<Command> {
    if !tools::have("systemd-analyze", &["--version"]) {
        return None;
    }
    let mut command = Command::new("systemd-analyze");
    command.args(arguments);
    Some(command)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(mut verify) = systemd_analyze(&["verify", "--man=no"]) else {
        return;
    };
    let scratch = Scratch::new();
    run(verify.args(units(&scratch))).printed();
}

/// What is left open is what README.md names. A lower number is safer; 20 is 2.0.
#[test]
fn systemd_calls_the_unit_hardened() {
    let Some(mut security) = systemd_analyze(&["security", "--offline=yes", "--threshold=20"])
    else {
        return;
    };
    let scratch = Scratch::new();
    let [service, _] = units(&scratch);
    let printed = run(security.arg(service)).printed().join("\n");
    let readme = fs::read_to_string(packaged("README.md")).unwrap();
    let (_, exposure) = printed.split_once("Overall exposure level for").unwrap();
    let (_, exposure) = exposure.split_once(": ").unwrap();
    let exposure = exposure.split(' ').next().unwrap();
    assert!(
        readme.contains(&format!("exposure {exposure}")),
        "{exposure}"
    );
}

/// The system calls that a unit lets through, by the sets of systemd.
fn let_through(unit: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut filters = unit.lines();
    while let Some(line) = filters
        .by_ref()
        .find_map(|it| it.strip_prefix("SystemCallFilter="))
    {
        let (takes, names) = match line.strip_prefix('~') {
            Some(names) => (false, names),
            None => (true, line),
        };
        for name in names.split(' ') {
            for call in calls_of(name) {
                if takes {
                    all.insert(call);
                } else {
                    all.remove(&call);
                }
            }
        }
    }
    all
}

/// The system calls of a set of systemd's, sets in it included.
fn calls_of(name: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let mut list = Command::new("systemd-analyze");
    let lines = run(list.args(["syscall-filter", "--no-pager", name])).printed();
    let members = lines.iter().filter_map(|line| line.strip_prefix("    "));
    let members = members.filter(|member| !member.starts_with('#'));
    members.flat_map(calls_of).collect()
}

/// A session with what sockserve does at all: it compiles, serves over TCP and a Unix
/// socket, keeps a cache and a state, answers the control socket, swaps, looks a name up,
/// opens its log again, and drains.
#[test]
fn the_unit_lets_through_what_is_needed() {
    if !tools::have("strace", &["--version"]) || systemd_analyze(&[]).is_none() {
        return;
    }
    let scratch = Scratch::new();
    let at = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let (trace, log, control) = (at("trace"), at("log"), at("control"));
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", &trace, EXE, "--log-file", &log]);
    command.args(["serve", "builtin:kv-concurrent"]);
    command.args([
        "--listen",
        "tcp://localhost:0",
        "--listen",
        &format!("unix:{}", at("s")),
    ]);
    command.args(["--control", &control, "--cache", &at("cache")]);
    command.args(["--state-file", &at("state"), "--dir", &at(".")]);
    command.args(["--unix-mode", "660", "--unix-group", "0", "--reuse-port"]);
    command.args(["--allow-connect", "localhost:1", "--allow-lookup"]);
    let mut process = Process::start(&mut command);
    let mut client = Client::connect(ready_address(&process));
    client.send("SET a 1\r\n");
    client.line();
    let mut local = Client::connect_unix(&scratch.path("s"));
    local.send("GET a\r\n");
    local.line();
    // The process that is traced, and not its tracer.
    let status = sockserve(["status", "--control", &control]).printed();
    assert!(status[0].starts_with("kv  serving"), "{status:?}");
    for (component, status) in [("builtin:kv-evented", 0), ("builtin:echo-datagram", 1)] {
        let outcome = sockserve(["swap", "kv", component, "--control", &control]);
        assert_eq!(outcome.status, Some(status), "{outcome:#?}");
    }
    client.send("GET a\r\n");
    client.line();
    let children = format!("/proc/{0}/task/{0}/children", process.id());
    let traced = fs::read_to_string(children).unwrap();
    let traced = rustix::process::Pid::from_raw(traced.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(traced, Signal::USR1).unwrap();
    rustix::process::kill_process(traced, Signal::HUP).unwrap();
    drop((client, local));
    sockserve(["shutdown", "--control", &control]).printed();
    assert_eq!(process.wait().code(), Some(0));
    let unit = fs::read_to_string(packaged("sockserve.service")).unwrap();
    let allowed = let_through(&unit);
    assert!(
        allowed.len() > 200 && !allowed.contains("setuid"),
        "{allowed:?}"
    );
    let trace = fs::read_to_string(&trace).unwrap();
    let calls = trace.lines().filter_map(|line| {
        // `PID NAME(ARGUMENTS…`, or the end of a call, an exit or a signal.
        let (_, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            .then_some(name)
    });
    let calls: BTreeSet<_> = calls.collect();
    assert!(calls.contains("accept4") && calls.len() > 40, "{calls:?}");
    let denied: Vec<_> = calls.iter().filter(|it| !allowed.contains(**it)).collect();
    // A call that is denied fails with EPERM; none of these may be missed.
    assert!(denied.is_empty(), "{denied:?}");
}

#[test]
fn logrotate_reads_its_file() {
    if !tools::have("logrotate", &["--version"]) {
        return;
    }
    let scratch = Scratch::new();
    let file = scratch.path("logrotate");
    fs::copy(packaged("logrotate"), &file).unwrap();
    let mut command = Command::new("logrotate");
    // `-d` changes nothing, and says what it would do.
    command
        .arg("-d")
        .arg("-s")
        .arg(scratch.path("state"))
        .arg(file);
    let outcome = run(&mut command);
    let said = [outcome.stdout, outcome.stderr].concat().join("\n");
    assert_eq!(outcome.status, Some(0), "{said}");
    assert!(
        said.contains("/var/log/sockserve/*.log") && !said.contains("error:"),
        "{said}"
    );
}

/// An image is what `packaging/image` collects, and nothing else of this machine: the process
/// has it as its root directory.
#[test]
fn the_image_serves_by_itself() {
    if !rustix::process::geteuid().is_root() || !tools::have("chroot", &["--version"]) {
        println!("skipped: this needs root and chroot");
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.path("root");
    run(Command::new(packaged("image")).arg(EXE).arg(&root)).printed();
    for directory in ["run/sockserve", "var/cache/sockserve", "var/lib/sockserve"] {
        let found = fs::metadata(root.join(directory)).unwrap();
        assert_eq!((found.uid(), found.gid()), (65532, 65532), "{directory}");
        assert_eq!(found.mode() & 0o777, 0o700, "{directory}");
    }
    // Docker mounts it. Names are looked up with nothing but what is in the image.
    fs::write(root.join("etc/hosts"), "127.0.0.1 here.example\n").unwrap();
    let mut command = Command::new("chroot");
    command.args(["--userspec=65532:65532", root.to_str().unwrap()]);
    command.args(["/usr/bin/sockserve", "serve", "builtin:echo-evented"]);
    command.args([
        "--listen",
        "tcp://here.example:0",
        "--cache",
        "/var/cache/sockserve",
    ]);
    command.args(["--control", "/run/sockserve/control.sock"]);
    let mut process = Process::start(&mut command);
    Client::connect(ready_address(&process)).check_echo("from the image");
    let control = root.join("run/sockserve/control.sock");
    let args = ["status".as_ref(), "--control".as_ref(), control.as_os_str()];
    sockserve(args).printed();
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(
        fs::read_dir(root.join("var/cache/sockserve"))
            .unwrap()
            .count(),
        1
    );
}

/// The steps of the Dockerfile are commands of this repository.
#[test]
fn the_dockerfile_names_what_is_there() {
    let dockerfile = fs::read_to_string(packaged("Dockerfile")).unwrap();
    assert!(dockerfile.contains("RUN packaging/image target/release/sockserve /image\n"));
    let toolchain = include_str!("../rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let minor: Vec<_> = channel.split('.').take(2).collect();
    let from = format!("FROM rust:{}-slim-bookworm AS build\n", minor.join("."));
    assert!(dockerfile.contains(&from), "{from}");
    let usage = Command::new(packaged("image"))
        .stderr(Stdio::null())
        .status();
    assert_eq!(usage.unwrap().code(), Some(2));
}
