//! What the commands print: `builtins`, `inspect`, `--help`, and the log in both
//! formats.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::command::sockserve;
use crate::harness::guests::{
    echo_concurrent, faults_import, kv_concurrent, time_blocking, time_evented,
};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::ready_address;
use crate::harness::{Client, Guest, Serve};

const BUILTINS: [&str; 35] = [
    "chat-concurrent",
    "chat-evented",
    "client-command",
    "counter-blocking",
    "counter-concurrent",
    "counter-datagram",
    "counter-datagram-concurrent",
    "counter-evented",
    "echo-blocking",
    "echo-command",
    "echo-concurrent",
    "echo-datagram",
    "echo-datagram-concurrent",
    "echo-evented",
    "http-blocking",
    "http-command",
    "kv-concurrent",
    "kv-evented",
    "small-blocking",
    "small-command",
    "small-concurrent",
    "small-datagram",
    "small-datagram-concurrent",
    "small-evented",
    "sockets-command",
    "time-blocking",
    "time-command",
    "time-concurrent",
    "time-datagram",
    "time-datagram-concurrent",
    "time-evented",
    "upper-blocking",
    "upper-command",
    "upper-concurrent",
    "upper-evented",
];

#[test]
fn builtins_are_listed_with_their_sizes() {
    let lines = sockserve(["builtins"]).printed();
    let words: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let names: Vec<&str> = words.iter().map(|words| words[0]).collect();
    assert_eq!(names, BUILTINS.map(|name| format!("builtin:{name}")));
    for line in words {
        assert!(line[1].parse::<u64>().unwrap() > 10_000, "{line:?}");
        assert_eq!(line[2..], ["bytes"]);
    }
}

#[test]
fn builtins_are_json_on_request() {
    let list = json(&["builtins", "--json"]);
    let text = sockserve(["builtins"]).printed();
    let builtins = list["builtins"].as_array().unwrap();
    assert_eq!(builtins.len(), BUILTINS.len());
    for (builtin, line) in builtins.iter().zip(text) {
        let (name, size) = (builtin["name"].as_str().unwrap(), &builtin["size-bytes"]);
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, [name, &size.to_string(), "bytes"]);
        assert!(builtin["path"].is_null(), "{builtin}");
    }
    let scratch = Scratch::new();
    let directory = scratch.path("builtins");
    let list = json(&["builtins", "--json", "--write", directory.to_str().unwrap()]);
    for builtin in list["builtins"].as_array().unwrap() {
        let size = fs::metadata(builtin["path"].as_str().unwrap())
            .unwrap()
            .len();
        assert_eq!(builtin["size-bytes"], size, "{builtin}");
    }
}

/// What a command prints, which is one line of JSON.
#[track_caller]
fn json(args: &[&str]) -> Value {
    let lines = sockserve(args).printed();
    assert_eq!(lines.len(), 1, "{lines:?}");
    serde_json::from_str(&lines[0]).unwrap()
}

/// All that the text says.
#[test]
fn inspect_is_json_on_request() {
    let report = json(&["inspect", "--json", "builtin:kv-concurrent"]);
    let size = fs::metadata(kv_concurrent.path()).unwrap().len();
    for (field, value) in [
        ("component", "builtin:kv-concurrent".into()),
        ("size-bytes", size.into()),
        ("contract", "concurrent".into()),
        ("composed-of", Value::Null),
        (
            "dispatches",
            Value::from(vec!["sequential", "threaded", "poll"]),
        ),
        ("default-dispatch", "poll".into()),
        ("compiled-bytes", Value::Null),
        ("keeps-state", true.into()),
    ] {
        assert_eq!(report[field], value, "{field} of {report}");
    }
    let memory = &report["memory"];
    assert_eq!(memory["instance-per"], "service");
    assert!(memory["start-bytes"].as_u64().unwrap() > 1000, "{memory}");
    assert_eq!(memory["advice"], Value::Null);
    let hand_over = &report["hand-over"];
    assert_eq!(hand_over["takes-over"], true);
    assert_eq!(hand_over["gives-up"], true);
    // Its peers see what the others store.
    assert_eq!(hand_over["may-roll"], false);
    assert_eq!(report["may-have-loops"], false);
    for (builtin, expected) in [("upper-evented", true), ("chat-evented", false)] {
        let report = json(&["inspect", "--json", &format!("builtin:{builtin}")]);
        assert_eq!(report["hand-over"]["may-roll"], expected, "{builtin}");
        assert_eq!(report["may-have-loops"], expected, "{builtin}");
    }
    // The imports of the text, in its words.
    let text = sockserve(["inspect", "builtin:kv-concurrent"]).printed();
    let imports: Vec<String> = report["imports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|import| {
            assert_eq!(import["provided"], true, "{import}");
            let (name, need) = (
                import["name"].as_str().unwrap(),
                import["need"].as_str().unwrap(),
            );
            format!("  {name:<45} {need}")
        })
        .collect();
    let begin = text.iter().position(|line| line == "imports").unwrap();
    assert_eq!(imports, text[begin + 1..]);
    for (builtin, per) in [
        ("echo-datagram", "service"),
        ("echo-blocking", "connection"),
    ] {
        let report = json(&["inspect", "--json", &format!("builtin:{builtin}")]);
        assert_eq!(report["memory"]["instance-per"], per);
        let gives_up = &report["hand-over"]["gives-up"];
        assert_eq!(*gives_up, builtin != "echo-datagram", "{report}");
    }
}

/// Where `serve` would refuse the component, `inspect` says all the same what is known, and
/// has the status of the refusal.
#[test]
fn inspect_says_in_json_what_is_lacking() {
    let path = faults_import.path();
    let outcome = sockserve(["inspect".as_ref(), "--json".as_ref(), path.as_os_str()]);
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    let report: Value = serde_json::from_str(&outcome.stdout[0]).unwrap();
    let imports = report["imports"].as_array().unwrap();
    let lacking: Vec<_> = imports
        .iter()
        .filter(|it| it["provided"] == false)
        .collect();
    assert_eq!(lacking.len(), 1, "{report}");
    let need = lacking[0]["need"].as_str().unwrap();
    assert!(need.starts_with("not provided: "), "{need}");
    let name = lacking[0]["name"].as_str().unwrap();
    assert!(outcome.stderr[0].contains(name), "{outcome:#?}");
}

#[test]
fn builtins_are_written_as_files_that_can_be_served() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("written/builtins");
    let _ = fs::remove_dir_all(&directory);
    let lines = sockserve([
        "builtins".as_ref(),
        "--write".as_ref(),
        directory.as_os_str(),
    ])
    .printed();
    let paths = BUILTINS.map(|name| directory.join(format!("{name}.wasm")));
    assert_eq!(
        lines,
        paths.each_ref().map(|path| path.display().to_string())
    );
    assert_eq!(fs::read_dir(&directory).unwrap().count(), BUILTINS.len());
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let family = name.split('-').next().unwrap();
        let is_for_datagrams = name.contains("-datagram");
        let transport = if is_for_datagrams { "udp" } else { "tcp" };
        let url = format!("{transport}://127.0.0.1:0");
        // A component that serves files does not start without any.
        let granted = format!("{}::/", directory.display());
        let grants: &[&str] = match family {
            "http" => &["--dir", &granted],
            _ => &[],
        };
        let server = Serve::component(&path).args(grants).listen(&url).start();
        let expected = format!(" service={family} ");
        assert!(server.ready[0].contains(&expected), "{}", server.ready[0]);
        if family == "echo" && !is_for_datagrams {
            server.connect().check_echo("hello");
        }
    }
    // Written once more over what is there.
    sockserve([
        "builtins".as_ref(),
        "--write".as_ref(),
        directory.as_os_str(),
    ])
    .printed();
}

#[test]
fn inspect_says_whether_a_state_passes_on() {
    let state = "state       what one instance for all knows passes to the next version";
    for (builtin, passes) in [
        ("kv-evented", true),
        ("kv-concurrent", true),
        ("chat-evented", false),
    ] {
        let lines = sockserve(["inspect", &format!("builtin:{builtin}")]).printed();
        assert_eq!(lines.iter().any(|line| line == state), passes, "{lines:?}");
    }
}

#[test]
fn inspect_says_what_a_component_is_and_needs() {
    for (guest, dispatches, instances) in [
        (
            time_blocking,
            "sequential, threaded (default), poll",
            "each connection has one",
        ),
        (time_evented, "poll (default)", "serves all"),
        (
            echo_concurrent,
            "sequential, threaded, poll (default)",
            "serves all",
        ),
    ] {
        let size = fs::metadata(guest.path()).unwrap().len();
        let path = guest.path().display().to_string();
        for component in [path, guest.builtin()] {
            let mut lines = sockserve(["inspect", &component]).printed();
            let memory = lines.remove(4);
            assert!(
                memory.starts_with("memory      an instance begins with ")
                    && memory.ends_with(&format!(" KiB, and {instances}")),
                "{memory}"
            );
            let rolls = match instances {
                "serves all" => {
                    let loops = lines.remove(5);
                    let expected = "loops       says whether its connections are independent";
                    assert!(loops.starts_with(expected), "{loops}");
                    "; says whether one group after another"
                }
                _ => "",
            };
            assert_eq!(
                lines[..6],
                [
                    format!("component   {component}"),
                    format!("size        {size} bytes"),
                    format!("contract    {}", guest.contract()),
                    format!("dispatches  {dispatches}"),
                    format!("hand-over   takes connections over, and gives its own up{rolls}"),
                    "imports".to_owned(),
                ]
            );
            // Every import, with what it takes.
            let imports: Vec<_> = lines[6..]
                .iter()
                .map(|line| line.strip_prefix("  ").unwrap().split_once(' ').unwrap())
                .map(|(import, need)| (import, need.trim_start()))
                .collect();
            let known = |import: &str| {
                import.starts_with("wasi:") || import.starts_with("sockserve:handler/")
            };
            assert!(
                imports.iter().all(|(import, _)| known(import)),
                "{imports:?}"
            );
            let need = |name: &str| {
                let found = imports.iter().find(|(import, _)| import.starts_with(name));
                found
                    .unwrap_or_else(|| panic!("no {name} in {imports:?}"))
                    .1
            };
            assert_eq!(
                need("wasi:cli/environment@"),
                "provided; variables by --env NAME=VALUE, arguments after --"
            );
            assert_eq!(need("wasi:cli/stdout@"), "provided; goes to the log");
            let sockets = match guest.contract() {
                "concurrent" => "wasi:sockets/types@0.3.0",
                _ => "wasi:sockets/tcp@0.2.12",
            };
            assert!(need(sockets).starts_with("provided for the accepted connection"));
        }
    }
}

/// The options of every command, and no others.
#[test]
fn help_has_every_option() {
    let global = ["--help", "--log-level", "--log-format", "--log-file"];
    let handler = [
        "--dispatch",
        "--name",
        "--env",
        "--dir",
        "--allow-connect",
        "--allow-send",
        "--allow-lookup",
        "--max-connections",
        "--max-memory",
        "--deadline",
        "--workers",
        "--loops",
        "--reuse",
        "--backlog",
        "--linger",
        "--drain-timeout",
        "--first-byte-timeout",
        "--idle-timeout",
        "--write-timeout",
        "--connection-timeout",
        "--cache",
        "--allow-precompiled",
    ];
    let serve = [
        "--listen",
        "--reuse-port",
        "--unix-mode",
        "--unix-group",
        "--allow-loops",
        "--control",
        "--metrics",
        "--max-connections-total",
        "--max-memory-total",
        "--rollback-percent",
        "--rollback-least",
        "--rollback-on",
        "--rollback-window",
        "--state-file",
        "--access-log",
        "--max-connections-per-source",
        "--source-prefix",
        "--connections-per-second",
        "--burst",
        "--pause",
        "--connections-per-second-per-source",
        "--burst-per-source",
        "--allow",
        "--deny",
        "--access-times",
        "--max-load",
        "--banner",
        "--on-refuse",
        "--once",
        "--exit-after",
        "--exit-idle",
    ];
    let only_serve = ["--watch", "--user", "--group"];
    let commands = [
        "serve",
        "inetd",
        "run",
        "demo",
        "builtins",
        "compile",
        "componentize",
        "compose",
        "inspect",
        "status",
        "top",
        "swap",
        "promote",
        "rollback",
        "connections",
        "kill",
        "suspend",
        "resume",
        "drain",
        "shutdown",
        "new",
        "wit",
        "dev",
        "completions",
        "man",
        "check",
        "reload",
    ];
    check_help(&["--help"], &global, &["--version"], &commands);
    let component = ["<COMPONENT>"];
    let service = [&handler[..], &serve].concat();
    let serve = [&service[..], &only_serve, &["--config"]].concat();
    check_help(&["serve", "--help"], &global, &serve, &["[COMPONENT]"]);
    check_help(&["check", "--help"], &global, &["--schema"], &["[FILE]"]);
    let dev = [&service[..], &["--build"]].concat();
    check_help(&["dev", "--help"], &global, &dev, &["[COMPONENT]"]);
    let inetd = [&handler[..], &["--idle", "--allow-loops"]].concat();
    check_help(&["inetd", "--help"], &global, &inetd, &component);
    let run = [
        "--env",
        "--dir",
        "--allow-connect",
        "--allow-listen",
        "--allow-udp",
        "--allow-lookup",
        "--max-memory",
        "--cache",
        "--allow-precompiled",
        "--timeout",
    ];
    check_help(&["run", "--help"], &global, &run, &["<COMPONENT>"]);
    let demo = ["--connections", "--round-trips", "--members"];
    check_help(&["demo", "--help"], &global, &demo, &[]);
    check_help(
        &["builtins", "--help"],
        &global,
        &["--write", "--json"],
        &[],
    );
    let compose = ["--output", "--force"];
    check_help(&["compose", "--help"], &global, &compose, &["<HANDLER>"]);
    let compile = [
        "--output",
        "--force",
        "--dispatch",
        "--max-memory",
        "--max-connections",
    ];
    check_help(&["compile", "--help"], &global, &compile, &["<COMPONENT>"]);
    check_help(
        &["componentize", "--help"],
        &global,
        &compose,
        &["<MODULE>"],
    );
    check_help(
        &["inspect", "--help"],
        &global,
        &["--json"],
        &["<COMPONENT>"],
    );
    check_help(&["completions", "--help"], &global, &[], &["<SHELL>"]);
    check_help(&["man", "--help"], &global, &[], &["[DIRECTORY]"]);
    let new = ["--lang", "--contract"];
    check_help(&["new", "--help"], &global, &new, &["<NAME>"]);
    check_help(&["wit", "--help"], &global, &["--force"], &["<DIR>"]);
    let control = ["--control", "--json"];
    check_help(&["status", "--help"], &global, &control, &[]);
    let top = ["--control", "--interval"];
    check_help(&["top", "--help"], &global, &top, &[]);
    check_help(
        &["connections", "--help"],
        &global,
        &control,
        &["[SERVICE]"],
    );
    let kill = ["--control", "--json", "--peer", "--service"];
    check_help(&["kill", "--help"], &global, &kill, &["[CONNECTION]..."]);
    for command in ["suspend", "resume"] {
        check_help(&[command, "--help"], &global, &control, &["<SERVICE>"]);
    }
    let ending = ["--control", "--json", "--wait"];
    check_help(&["shutdown", "--help"], &global, &ending, &[]);
    let rollback = ["--control", "--json", "--to", "--discard-state"];
    check_help(&["rollback", "--help"], &global, &rollback, &["<SERVICE>"]);
    check_help(&["drain", "--help"], &global, &ending, &["<SERVICE>"]);
    let swap = [
        &control[..],
        &["--old", "--drain-timeout", "--probe", "--discard-state"],
        &[
            "--canary",
            "--canary-for",
            "--env",
            "--unset-env",
            "--dispatch",
        ],
        &[
            "--max-connections",
            "--max-memory",
            "--deadline",
            "--linger",
        ],
        &["--first-byte-timeout", "--idle-timeout", "--write-timeout"],
        &["--connection-timeout"],
    ]
    .concat();
    check_help(&["promote", "--help"], &global, &control, &["<SERVICE>"]);
    let names = ["<SERVICE>", "[COMPONENT]"];
    check_help(&["swap", "--help"], &global, &swap, &names);
    let version = sockserve(["--version"]).printed();
    assert_eq!(
        version,
        [format!("sockserve {}", env!("CARGO_PKG_VERSION"))]
    );
}

/// The help has these options and no others, and these words.
#[track_caller]
fn check_help(args: &[&str], global: &[&str], options: &[&str], words: &[&str]) {
    let lines = sockserve(args).printed();
    let is_option = |word: &&str| word.starts_with("--");
    let mut listed: Vec<String> = lines
        .iter()
        .map(|line| line.trim_start())
        .filter(|line| line.starts_with('-'))
        .filter_map(|line| line.split_whitespace().find(is_option))
        .map(str::to_owned)
        .collect();
    listed.sort();
    let mut expected = [global, options].concat();
    expected.sort_unstable();
    assert_eq!(listed, expected, "{args:?}");
    for word in words {
        let found = lines
            .iter()
            .any(|line| line.split_whitespace().any(|it| it == *word));
        assert!(found, "no {word} in {lines:#?}");
    }
}

/// Every default that the documentation names is in the help.
#[test]
fn help_has_the_defaults() {
    let help = sockserve(["serve", "--help"]).printed().join("\n");
    let mut options = help.split("\n      --");
    options.next();
    let mut seen = 0;
    for option in options {
        let name = option.split_whitespace().next().unwrap();
        let default = match name {
            "max-connections" | "backlog" => "1024",
            "max-memory" => "64",
            "deadline" => "1s",
            "linger" => "2s",
            "drain-timeout" => "10s",
            "workers" => "one a processor",
            "log-level" => "info",
            "log-format" => "text",
            _ => continue,
        };
        let (_, given) = option
            .split_once("[default: ")
            .unwrap_or_else(|| panic!("{option}"));
        assert!(
            given.trim_start_matches('"').starts_with(default),
            "{option}"
        );
        seen += 1;
    }
    assert_eq!(seen, 9);
}

/// Where a default depends on something, the help says on what.
#[test]
fn help_has_the_defaults_of_a_swap() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = words(&sockserve(["swap", "--help"]).printed().join(" "));
    for default in [
        "[default: hand-over where both versions can, else drain]",
        "[default: the service's drain timeout if they drain, without limit if they are handed over]",
        "[default: 60s]",
    ] {
        assert!(help.contains(default), "no {default} in {help}");
    }
    // What is not named stays as it is.
    for none in [
        "[default: 1024]",
        "[default: 64MiB]",
        "[default: 1s]",
        "[default: 2s]",
    ] {
        assert!(!help.contains(none), "{none} in {help}");
    }
}

for_each_pair! {
    echo [concurrent_sequential, concurrent_threaded, concurrent_poll], time [evented_poll]:
    the_log_is_json_on_request
}
/// The fields of a line about a connection.
fn the_log_is_json_on_request(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).args(["--name", "it"]).start();
    let mut client = server.connect();
    let peer = client.local().to_string();
    client.finish_sending();
    client.read_to_end();
    drop(client);
    // Every line is an object: `stop` checks it.
    let finished = server.stop();
    for event in &finished.log {
        assert!(!event.str("timestamp").is_empty(), "{event:?}");
        assert!(!event.str("level").is_empty(), "{event:?}");
        assert_eq!(event.str("service"), "it", "{event:?}");
        assert!(!event.message().is_empty(), "{event:?}");
    }
    for message in ["connection opened", "connection closed"] {
        let about: Vec<_> = finished
            .log
            .iter()
            .filter(|event| event.message() == message)
            .collect();
        assert_eq!(about.len(), 1);
        assert_eq!(about[0].connection(), Some(1));
        assert_eq!(about[0].str("peer"), peer);
    }
}

/// By default the log is text, without a line for each connection.
#[test]
fn the_log_is_text_by_default() {
    let run = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command.args(["serve", "builtin:time-blocking", "--env", "MODE=request"]);
        command
            .args(["--listen", "tcp://127.0.0.1:0"])
            .args(options);
        let mut process = Process::start(&mut command);
        let address = ready_address(&process);
        let mut client = Client::connect(address);
        client.send("What time is it?");
        client.read_to_end();
        let peer = client.local();
        drop(client);
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait().code(), Some(0));
        (peer, process.stderr.lines())
    };
    let (peer, lines) = run(&[]);
    let said = lines
        .iter()
        .find(|line| line.contains("What time is it?"))
        .unwrap();
    for part in [
        "INFO",
        "service=\"time\"",
        "connection=1",
        &format!("peer={peer}"),
        "stdout",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(
        !lines.iter().any(|line| line.contains("connection opened")),
        "{lines:#?}"
    );
    let (_, lines) = run(&["--log-level", "off"]);
    assert!(lines.is_empty(), "{lines:#?}");
    let (_, lines) = run(&["--log-level", "debug"]);
    assert!(
        lines.iter().any(|line| line.contains("connection opened")),
        "{lines:#?}"
    );
}
