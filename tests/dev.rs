//! `sockserve dev`: edits, builds, swaps. The build of most of these tests copies the
//! component whose path is in the file `source`, and so an edit of that file is another
//! handler.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::guests::{
    echo_blocking, echo_datagram, echo_evented, kv_evented, time_blocking, upper_evented,
};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::{CACHE, ready_address};
use crate::harness::{Client, Guest, PATIENCE};

/// Copies what is named in `source`.
const COPY: &str = r#"cp "$(cat source)" it.wasm"#;

/// How long a build by a compiler may take.
const COMPILING: Duration = Duration::from_secs(300);

/// A folder with a project's file in it.
struct Folder(Scratch);

impl Folder {
    /// Its build copies a component, and `also` is done before.
    fn new(also: &str, guest: Guest) -> Folder {
        let folder = Folder(Scratch::new());
        folder.describe(&format!("{also}\n{COPY}"));
        folder.serve(guest);
        folder
    }

    fn describe(&self, build: &str) {
        let json = json!({
            "build": build,
            "component": "it.wasm",
            "listen": "tcp://127.0.0.1:0",
        });
        self.write(".sockserve/project.json", json.to_string());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// An edit: this is the handler from now on.
    fn serve(&self, guest: Guest) {
        self.write("source", guest.path().to_str().unwrap());
    }

    fn start(&self, options: &[&str]) -> Dev {
        Dev::start(&self.path("."), options)
    }
}

/// `sockserve dev` as a process. Lines are waited for in their order. Where a build begins
/// there is none between its output and the log, which has a thread of its own.
struct Dev {
    process: Process,
    heard: usize,
}

impl Dev {
    /// In this folder.
    fn start(folder: &Path, options: &[&str]) -> Dev {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command.args(["dev", "--cache", CACHE]).args(options);
        command.current_dir(folder).env_remove("CARGO_TARGET_DIR");
        command.env("CARGO_NET_OFFLINE", "true");
        Dev {
            process: Process::start(&mut command),
            heard: 0,
        }
    }

    /// Waits for a line with these words, after the line that was waited for last.
    #[track_caller]
    fn hear(&mut self, words: &str) -> String {
        self.hear_within(PATIENCE, words)
    }

    #[track_caller]
    fn hear_within(&mut self, patience: Duration, words: &str) -> String {
        let heard = self.heard;
        let said = |lines: &[String]| {
            let mut new = lines.iter().enumerate().skip(heard);
            let found = new.find(|(_, line)| line.contains(words));
            found.map(|(at, line)| (at + 1, line.clone()))
        };
        let stderr = &self.process.stderr;
        let (heard, line) = stderr.wait_until_within(patience, words, said);
        self.heard = heard;
        line
    }

    #[track_caller]
    fn connect(&self) -> Client {
        Client::connect(ready_address(&self.process))
    }

    /// How many lines with these words there are so far.
    fn count(&self, words: &str) -> usize {
        let lines = self.process.stderr.lines();
        lines.iter().filter(|line| line.contains(words)).count()
    }

    /// Asks it to end. It does, and so have all that had its standard error: the build,
    /// and what the build has started.
    #[track_caller]
    fn end(mut self, signal: Signal) -> Vec<String> {
        self.process.signal(signal);
        assert_eq!(self.process.wait().code(), Some(0));
        self.process.stderr.lines()
    }
}

#[test]
fn an_edit_is_live_on_a_connection_in_the_middle_of_a_line() {
    let folder = Folder::new("echo compiling", upper_evented);
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1 in ");
    assert_eq!(dev.count("building: echo compiling"), 1);
    let mut client = dev.connect();
    // One segment, so that the half is read with the line.
    client.send("one\nha");
    client.expect("ONE\n");
    folder.serve(echo_evented);
    let live = dev.hear("live: source → version 2 in ");
    assert!(live.contains(" s (build 0."), "{live}");
    assert!(live.contains(", 1 connection handed over"), "{live}");
    client.send("lf\n");
    client.expect("half\n");
    drop(client);
    let lines = dev.end(Signal::TERM);
    assert!(
        !lines.iter().any(|line| line.contains("WARN")),
        "{lines:#?}"
    );
}

#[test]
fn a_build_that_fails_leaves_the_handler_as_it_is() {
    let folder = Folder::new("", echo_evented);
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1");
    let mut client = dev.connect();
    client.check_echo("before\n");
    folder.write("source", "nowhere.wasm");
    // The compiler's own words.
    dev.hear("cp: ");
    let failed = dev.hear("the build failed after 0.");
    let expected = " s (exit status: 1); version 1 serves on";
    assert!(failed.contains(expected), "{failed}");
    client.check_echo("still\n");
    folder.serve(upper_evented);
    dev.hear("live: source → version 2");
    client.send("mended\n");
    client.expect("MENDED\n");
}

#[test]
fn a_project_that_fails_at_first_is_waited_for() {
    let folder = Folder::new("", echo_evented);
    let mut dev = folder.start(&["--build", "kill -9 $$"]);
    dev.hear("(signal: 9 (SIGKILL)); nothing is served yet, an edit is waited for");
    dev.end(Signal::TERM);
    folder.write("source", "nowhere.wasm");
    let mut dev = folder.start(&[]);
    dev.hear("(exit status: 1); nothing is served yet, an edit is waited for");
    // No component, no handler, and one that is for something else.
    folder.write("it.txt", "no component");
    folder.write("source", "it.txt");
    dev.hear("not started: it.wasm: ");
    assert!(dev.process.stdout.lines().is_empty());
    folder.serve(upper_evented);
    dev.hear("live: source → version 1 in ");
    let mut client = dev.connect();
    client.send("a\n");
    client.expect("A\n");
}

#[test]
fn a_component_that_is_refused_leaves_the_handler_as_it_is() {
    let folder = Folder::new("", kv_evented);
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1");
    let mut client = dev.connect();
    let mut check = |text: &str, answer: &str| {
        client.send(text);
        client.expect(answer);
    };
    check("SET a 1\n", "OK\r\n");
    folder.write("text", "no component");
    for (source, reason) in [
        (
            echo_evented.path(),
            "it does not take over the state of version 1",
        ),
        (echo_datagram.path(), "its contract is datagram"),
        (folder.path("text"), "it.wasm: "),
    ] {
        folder.write("source", source.to_str().unwrap());
        let refused = dev.hear("not swapped, the version before goes on: ");
        assert!(refused.contains(reason), "{refused}");
        check("GET a\n", "1\r\n");
    }
}

fn fifo(scratch: &Scratch) -> PathBuf {
    let path = scratch.path("fifo");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    path
}

/// The build stands at a gate until the test lets it through.
struct Gate {
    fifo: File,
    build: String,
}

impl Gate {
    fn new(scratch: &Scratch) -> Gate {
        let path = fifo(scratch);
        Gate {
            // For both, so that the open does not wait for the build.
            fifo: File::options().read(true).write(true).open(&path).unwrap(),
            build: format!(
                "{COPY}; printf 'at the %s\\n' gate; read -r go < {}",
                path.display()
            ),
        }
    }

    fn open(&mut self) {
        self.fifo.write_all(b"go\n").unwrap();
    }
}

#[test]
fn an_edit_during_a_build_is_built_after_it() {
    let outside = Scratch::new();
    let mut gate = Gate::new(&outside);
    let folder = Folder::new("", upper_evented);
    folder.describe(&gate.build);
    let mut dev = folder.start(&[]);
    dev.hear("at the gate");
    // Already during the first one.
    folder.serve(time_blocking);
    gate.open();
    dev.hear("live: version 1");
    dev.hear("at the gate");
    folder.serve(upper_evented);
    folder.serve(echo_evented);
    gate.open();
    dev.hear("live: source → version 2");
    dev.hear("at the gate");
    gate.open();
    dev.hear("live: source → version 3");
    dev.connect().check_echo("last\n");
    let lines = dev.end(Signal::TERM);
    let builds = lines.iter().filter(|line| line.contains("building: "));
    assert_eq!(builds.count(), 3, "{lines:#?}");
}

#[test]
fn a_signal_ends_the_build_and_all_that_it_has_started() {
    // One hears SIGTERM, one does not, and one is stopped.
    let hang = "sleep 1000 & \
                (trap '' TERM; sleep 1000 & wait) & \
                (kill -STOP $(exec sh -c 'echo $PPID')) & \
                printf 'ha%s\\n' nging; wait";
    // In the first build.
    for signal in [Signal::INT, Signal::TERM] {
        let folder = Folder::new("", echo_evented);
        folder.describe(hang);
        let mut dev = folder.start(&[]);
        dev.hear("hanging");
        let lines = dev.end(signal);
        let last = lines.last().unwrap();
        assert!(
            last.contains("ended by a signal before it served"),
            "{last}"
        );
    }
    // In a later one, while the version before serves.
    let folder = Folder::new(&format!("if [ -e hang ]; then {hang}; fi"), echo_evented);
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1");
    folder.write("hang", "");
    dev.hear("hanging");
    let mut client = dev.connect();
    client.check_echo("serving\n");
    dev.process.signal(Signal::INT);
    dev.hear("draining");
    drop(client);
    dev.hear("stopped");
    assert_eq!(dev.process.wait().code(), Some(0));
    assert_eq!(dev.count("the build failed"), 0);
}

/// What a build leaves running would be there as often as there were builds.
#[test]
fn what_a_build_leaves_running_ends_with_it() {
    let outside = Scratch::new();
    let fifo = fifo(&outside);
    let mut reader = Process::start(Command::new("cat").arg(&fifo));
    let left = format!("sleep 1000 > {} &", fifo.display());
    let folder = Folder::new(&left, echo_evented);
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1");
    // Its end of the pipe is closed, though `dev` goes on.
    assert_eq!(reader.wait().code(), Some(0));
    dev.connect().check_echo("serving\n");
    dev.end(Signal::TERM);
}

#[test]
fn only_another_content_of_a_source_starts_a_build() {
    let folder = Folder::new("", upper_evented);
    folder.write(".gitignore", "*.log\n/generated\n");
    folder.write("other", "one");
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1");
    for path in [
        "build.log",
        "generated/a.rs",
        "target/a.rs",
        "node_modules/a.js",
        "__pycache__/a.pyc",
        ".venv/a.py",
        ".source.swp",
        "it.wasm",
    ] {
        folder.write(path, "changed");
    }
    folder.write("other", "one");
    folder.serve(upper_evented);
    folder.write("new/folder/a.rs", "one");
    dev.hear("building: new/folder/a.rs");
    dev.hear("not swapped, the build made the component that is served already (build ");
    folder.write("new/folder/a.rs", "two");
    dev.hear("building: new/folder/a.rs");
    dev.hear("not swapped");
    // In the same tick of the clock as the one before, and as long.
    folder.write("new/folder/a.rs", "six");
    dev.hear("building: new/folder/a.rs");
    dev.hear("not swapped");
    fs::remove_dir_all(folder.path("new")).unwrap();
    dev.hear("building: new/folder/a.rs");
    dev.hear("not swapped");
    let lines = dev.end(Signal::TERM);
    let builds: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("building: "))
        .collect();
    assert_eq!(builds.len(), 5, "{builds:#?}");
    assert!(
        !builds.iter().any(|line| line.contains(" more")),
        "{builds:#?}"
    );
}

#[test]
fn editors_that_rename_and_edits_of_many_files_are_seen() {
    let folder = Folder::new("", upper_evented);
    let mut dev = folder.start(&[]);
    dev.hear("live: version 1");
    // As vim saves: the old file is moved away, a new one is written, the old one goes.
    fs::rename(folder.path("source"), folder.path("source~")).unwrap();
    folder.serve(echo_evented);
    fs::remove_file(folder.path("source~")).unwrap();
    dev.hear("live: source → version 2");
    // As others do: a new file takes the place of the old one.
    folder.write(".source.new", upper_evented.path().to_str().unwrap());
    fs::rename(folder.path(".source.new"), folder.path("source")).unwrap();
    dev.hear("live: source → version 3");
    // As `cp -p` and tar do, with a time of long ago.
    folder.write(".source.new", echo_evented.path().to_str().unwrap());
    let file = fs::File::options()
        .write(true)
        .open(folder.path(".source.new"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    fs::rename(folder.path(".source.new"), folder.path("source")).unwrap();
    let live = dev.hear("live: source → version 4 in ");
    let (_, took) = live.split_once("version 4 in ").unwrap();
    assert!(took.find(" s (").unwrap() < "1000.00".len(), "{live}");
    // Many at once, and none of them is left behind.
    let before = dev.heard;
    for number in 0..100 {
        folder.write(&format!("many/{number}.rs"), "");
    }
    folder.serve(upper_evented);
    dev.hear("version 5 in ");
    let seen = dev.process.stderr.lines();
    let builds = seen[before..]
        .iter()
        .filter(|line| line.contains("building: "));
    let files = builds.map(|line| match line.split_once(" and ") {
        Some((_, more)) => 1 + more.split(' ').next().unwrap().parse::<usize>().unwrap(),
        None => 1,
    });
    assert!(files.sum::<usize>() > 100, "{seen:#?}");
}

/// A build that writes another content to a source each time would never end.
#[test]
fn what_the_build_itself_writes_starts_no_build_for_ever() {
    let folder = Folder::new("echo x >> stamp; cp source copy", upper_evented);
    let mut dev = folder.start(&[]);
    dev.hear("stamp changed in 5 builds in a row, so the build itself writes it");
    assert_eq!(dev.count("building: "), 5);
    folder.serve(echo_evented);
    dev.hear("building: source");
    dev.hear("live: source → version 2");
    // `copy` has changed in one build, and not in the next.
    dev.hear(" and 1 more");
    dev.hear("not swapped");
    folder.serve(upper_evented);
    dev.hear("version 3 in ");
    dev.end(Signal::TERM);
}

#[test]
fn a_component_by_its_whole_path_is_no_source() {
    let folder = Folder::new("", upper_evented);
    let component = fs::canonicalize(folder.path(".")).unwrap().join("it.wasm");
    let mut dev = folder.start(&[component.to_str().unwrap()]);
    dev.hear("live: version 1");
    folder.serve(echo_evented);
    dev.hear("live: source → version 2");
    folder.serve(upper_evented);
    dev.hear("live: source → version 3");
    let lines = dev.end(Signal::TERM);
    let is_built = |line: &String| line.contains("building: it.wasm");
    assert!(!lines.iter().any(is_built), "{lines:#?}");
}

/// A log that is copied into the folder changes with each build, but after it.
#[test]
fn a_log_among_the_sources_starts_no_build_for_ever() {
    let outside = Scratch::new();
    let folder = Folder::new("", upper_evented);
    let mut shell = Command::new("sh");
    let copied = "tee dev.log < \"$0\" >&2 & exec \"$@\" 2> \"$0\"";
    shell.args(["-c", copied]).arg(fifo(&outside));
    shell.args([env!("CARGO_BIN_EXE_sockserve"), "dev", "--cache", CACHE]);
    let mut dev = Dev {
        process: Process::start(shell.current_dir(folder.path("."))),
        heard: 0,
    };
    dev.hear("dev.log changed in 5 builds in a row, so the build itself writes it");
    folder.serve(echo_evented);
    dev.hear("version 2 in ");
    dev.connect().check_echo("live\n");
    let lines = dev.end(Signal::TERM);
    // Six, or some more if the copy was late.
    let builds = lines.iter().filter(|line| line.contains("building: "));
    assert!(builds.count() < 20, "{lines:#?}");
}

#[test]
fn a_project_of_rust_is_live_after_an_edit() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples/target");
    fs::create_dir_all(&place).unwrap();
    let scratch = Scratch::new();
    let folder = scratch.path("live");
    let made = sockserve(["new".as_ref(), folder.as_os_str(), "--lang=rust".as_ref()]);
    assert!(
        made.printed()
            .contains(&"  edit it:   sockserve dev".to_owned())
    );
    // What the other tests have compiled.
    symlink(place, folder.join("target")).unwrap();
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    fs::copy(guests.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let replace = |path: &str, from: &str, to: &str| {
        let path = folder.join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    // Any free port; all else is as it was made.
    replace(".sockserve/project.json", ":7000", ":0");
    let mut dev = Dev::start(&folder, &[]);
    dev.hear_within(COMPILING, "Finished");
    dev.hear_within(COMPILING, "live: version 1 in ");
    // Cargo has taken out of the lock file what is not needed here.
    dev.hear("building: Cargo.lock");
    dev.hear_within(COMPILING, "not swapped");
    let ask = |dev: &Dev| {
        let mut client = dev.connect();
        client.send("line\n");
        client.line()
    };
    assert_eq!(ask(&dev), "1 line\n");
    replace("src/lib.rs", "{count} {line}", "{line} is {count}");
    dev.hear_within(COMPILING, "live: src/lib.rs → version 2 in ");
    assert_eq!(ask(&dev), "line is 1\n");
    replace("src/lib.rs", "count += 1;", "count += 1");
    dev.hear_within(COMPILING, "error: expected `;`");
    dev.hear("the build failed after ");
    assert_eq!(ask(&dev), "line is 1\n");
    dev.end(Signal::INT);
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let refused = |folder: &Folder, options: &[&str], status: i32, expected: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command
            .arg("dev")
            .args(options)
            .current_dir(folder.path("."));
        let outcome: Outcome = run(&mut command);
        let last = outcome.stderr.last().unwrap();
        assert_eq!(outcome.status, Some(status), "{outcome:?}");
        assert!(last.contains(expected), "{last}");
        assert!(last.starts_with("sockserve: "), "{outcome:?}");
        outcome.stderr.len()
    };
    let empty = Folder(Scratch::new());
    let nowhere = "there is no .sockserve/project.json here: go to a folder that `sockserve new` \
                   has made, or give ";
    let all = [
        "it.wasm",
        "--build",
        "true",
        "--listen",
        "tcp://127.0.0.1:0",
    ];
    for (options, missing) in [
        (&all[..0], "COMPONENT, --build COMMAND, --listen URL"),
        (&all[..1], "--build COMMAND, --listen URL"),
        (&all[..3], "--listen URL"),
        (&all[1..], "COMPONENT"),
    ] {
        assert_eq!(
            refused(&empty, options, 2, &format!("{nowhere}{missing}")),
            1
        );
    }
    let builtin = [&["builtin:echo-evented"], &all[1..]].concat();
    refused(&empty, &builtin, 2, "is embedded and never changes");
    refused(&empty, &["--listen", "tcp://nowhere"], 2, "--listen");
    refused(&empty, &["--watch"], 2, "--watch");
    let folder = Folder::new("", echo_blocking);
    folder.write(".sockserve/project.json", "{\"build\": \"true\"}");
    let expected = ".sockserve/project.json does not say all: add what is missing there, or give \
                    COMPONENT, --listen URL";
    assert_eq!(refused(&folder, &[], 2, expected), 1);
    folder.write(".sockserve/project.json", "{\"port\":\n 7}");
    let expected = "project.json: unknown field `port`";
    assert_eq!(refused(&folder, &[], 1, expected), 1);
    // What another component would not mend ends it, as it ends `serve`.
    folder.describe(COPY);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    refused(&folder, &["--listen", &url], 1, &url);
    refused(
        &folder,
        &["--listen", "udp://127.0.0.1:0"],
        2,
        "listen on tcp://",
    );
    // The arguments go before the file.
    let folder = Folder::new("", echo_blocking);
    let mut dev = folder.start(&[
        "other.wasm",
        "--build",
        "cp $(cat source) other.wasm; printf 'mi%s\\n' ne",
    ]);
    dev.hear("mine");
    dev.hear("live: version 1");
    assert!(folder.path("other.wasm").exists() && !folder.path("it.wasm").exists());
}
