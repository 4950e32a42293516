//! `sockserve compile`: the code is used where it was made for and trusted, and everywhere
//! else the component is compiled as ever. What is said meanwhile, and of large instances.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use crate::harness::command::{run, sockserve};
use crate::harness::control::Controlled;
use crate::harness::guests::{
    echo_blocking, echo_datagram, echo_evented, faults_import, upper_command,
};
use crate::harness::log::Event;
use crate::harness::scratch::Scratch;
use crate::harness::server::Finished;
use crate::harness::{Client, PATIENCE, Serve, Server};

/// The component with its code in its file.
#[track_caller]
fn compiled(scratch: &Scratch, component: &Path, options: &[&str]) -> PathBuf {
    let path = scratch.path("compiled.wasm");
    let outcome = sockserve(
        [
            "compile".as_ref(),
            component.as_os_str(),
            "--output".as_ref(),
            path.as_os_str(),
        ]
        .into_iter()
        .chain(options.iter().map(AsRef::as_ref)),
    );
    let lines = outcome.printed();
    let [line] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    let size = path.metadata().unwrap().len();
    assert!(size > component.metadata().unwrap().len());
    let begin = format!("{}  {size} bytes, ", path.display());
    assert!(line.starts_with(&begin), "{line}");
    assert!(line.contains("of them code that saves "), "{line}");
    path
}

fn trusted(component: &Path) -> Server {
    Serve::component(component)
        .args(["--allow-precompiled"])
        .start()
}

/// What the log says of compiled code.
fn of_code(finished: &Finished) -> Vec<&Event> {
    let is_of_code = |event: &&Event| {
        let message = event.message();
        message.contains("code in") || message.contains("code of")
    };
    finished.log.iter().filter(is_of_code).collect()
}

#[track_caller]
fn check_said(finished: &Finished, expected: &str) {
    let said = of_code(finished);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].message(), expected);
}

#[test]
fn code_is_used_where_it_is_trusted() {
    let scratch = Scratch::new();
    let path = compiled(&scratch, &echo_blocking.path(), &[]);
    let server = trusted(&path);
    server.connect().check_echo("compiled\n");
    let finished = server.stop();
    finished.check_no_alarm();
    check_said(&finished, "the code in its file is used");
    assert!(of_code(&finished)[0].str("saved").ends_with('s'));

    let server = Serve::component(&path).start();
    server.connect().check_echo("compiled again\n");
    let finished = server.stop();
    finished.check_no_alarm();
    check_said(
        &finished,
        "the compiled code in its file is not used; trust it by --allow-precompiled",
    );
}

/// The file is still the component that it was, and its digest the same.
#[test]
fn the_file_stays_a_component() {
    let scratch = Scratch::new();
    let path = compiled(&scratch, &echo_evented.path(), &[]);
    let inspect = |path: &Path| sockserve(["inspect".as_ref(), path.as_os_str()]).printed();
    let (mut with, without) = (inspect(&path), inspect(&echo_evented.path()));
    let place = with
        .iter()
        .position(|line| line.starts_with("compiled    "));
    let code = with.remove(place.unwrap());
    assert!(
        code.ends_with(" of code; --allow-precompiled uses it"),
        "{code}"
    );
    assert_eq!(with[1..], without[1..]);
    // Compiled once more, it has the code once.
    let again = scratch.path("again.wasm");
    sockserve([
        "compile".as_ref(),
        path.as_os_str(),
        "-o".as_ref(),
        again.as_os_str(),
    ])
    .printed();
    let size = |path: &Path| path.metadata().unwrap().len();
    assert_eq!(size(&path), size(&again));
    // What composes takes the component out of it.
    let compose = |handler: &Path, name: &str| {
        let command = scratch.path(name);
        let args = ["compose".as_ref(), handler.as_os_str(), "-o".as_ref()];
        sockserve(args.into_iter().chain([command.as_os_str()])).printed();
        fs::read(command).unwrap()
    };
    assert!(compose(&path, "a.wasm") == compose(&echo_evented.path(), "b.wasm"));
}

/// A swap to a version with its code.
#[test]
fn a_swap_uses_it_too() {
    let scratch = Scratch::new();
    let path = compiled(&scratch, &echo_evented.path(), &[]);
    let options = ["--allow-precompiled"];
    let controlled = Controlled::start(echo_blocking, "poll", &options);
    let mut kept = controlled.server.connect();
    kept.check_echo("before\n");
    controlled.swap(&path, &[]);
    kept.check_echo("after\n");
    drop(kept);
    let finished = controlled.server.stop();
    finished.check_no_alarm();
    check_said(&finished, "the code in its file is used");
}

#[test]
fn code_that_does_not_fit_is_compiled_again() {
    let scratch = Scratch::new();
    // So many memories have addresses that are checked.
    let many = compiled(
        &scratch,
        &echo_blocking.path(),
        &["--max-connections", "8000"],
    );
    let whole = fs::read(&many).unwrap();
    let component = fs::read(echo_blocking.path()).unwrap();
    let of_component = component.len();
    let key = of_component + (whole.len() - of_component).min(30);
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let other = "is of another sockserve, another processor, or other limits";
    let mut behind = whole.clone();
    behind.extend([0, 3, 1, b'b', 1]);
    for (bytes, said) in [
        (whole.clone(), Some(other)),
        (changed(key), Some(other)),
        // Behind the end of the section it is not from `sockserve compile`.
        (behind, None),
    ] {
        fs::write(&many, &bytes).unwrap();
        let server = trusted(&many);
        server.connect().check_echo("compiled again\n");
        let finished = server.stop();
        let alarms = finished.alarms();
        match said {
            Some(said) => {
                let expected =
                    format!("the compiled code in its file {said}; it is compiled again here");
                assert_eq!(alarms.len(), 1, "{alarms:?}");
                assert_eq!(alarms[0].message(), expected);
            }
            None => assert!(alarms.is_empty() && of_code(&finished).is_empty()),
        }
    }
    // With the same option it fits, and a flipped bit does not.
    for (bytes, damaged) in [(whole.clone(), false), (changed(whole.len() - 100), true)] {
        fs::write(&many, &bytes).unwrap();
        let server = Serve::component(&many)
            .args(["--allow-precompiled", "--max-connections", "8000"])
            .start();
        server.connect().check_echo("whole?\n");
        let finished = server.stop();
        assert_eq!(finished.alarms().len(), usize::from(damaged));
        check_said(
            &finished,
            if damaged {
                "the compiled code in its file is damaged; it is compiled again here"
            } else {
                "the code in its file is used"
            },
        );
    }
}

#[test]
fn programs_and_datagrams_have_it_as_well() {
    let scratch = Scratch::new();
    let path = compiled(&scratch, &echo_datagram.path(), &[]);
    let server = Serve::component(&path)
        .args(["--allow-precompiled"])
        .listen("udp://127.0.0.1:0")
        .start();
    check_said(&server.stop(), "the code in its file is used");

    let path = compiled(&scratch, &upper_command.path(), &["--force"]);
    let (mut process, mut typing) = crate::harness::process::Process::start_typing(
        Command::new(env!("CARGO_BIN_EXE_sockserve"))
            .args(["--log-level", "debug", "run", "--allow-precompiled"])
            .arg(&path),
    );
    typing.write_all(b"abc\n").unwrap();
    drop(typing);
    assert!(process.wait().success());
    assert_eq!(process.stdout.lines(), ["ABC"]);
    let lines = process.stderr.lines();
    let is_said = |line: &String| line.contains("the code in its file is used");
    assert!(lines.iter().any(is_said), "{lines:?}");
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("file.wasm");
    let compile = |component: &Path, options: &[&str]| {
        let args = ["compile".as_ref(), component.as_os_str(), "-o".as_ref()];
        let args = args.into_iter().chain([path.as_os_str()]);
        sockserve(args.chain(options.iter().map(AsRef::as_ref)))
    };
    let check = |component: &Path, options: &[&str], status: i32, part: &str| {
        let outcome = compile(component, options);
        assert_eq!(outcome.status, Some(status), "{outcome:?}");
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
        let [line] = outcome.stderr.as_slice() else {
            panic!("{outcome:?}");
        };
        assert!(line.contains(part), "{line}");
    };
    check(
        &echo_evented.path(),
        &["--dispatch", "threaded"],
        2,
        "use --dispatch poll",
    );
    check(&faults_import.path(), &[], 1, "compose the component");
    check(&scratch.path("none.wasm"), &[], 1, "none.wasm");
    assert!(!path.exists());
    compile(&echo_blocking.path(), &[]).printed();
    check(&echo_blocking.path(), &[], 2, "replace it with --force");
    compile(&echo_blocking.path(), &["--force"]).printed();
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

/// A cache says what it saves.
#[test]
fn the_cache_says_what_it_saves() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let start = || {
        let serve = Serve::guest(echo_blocking, "threaded");
        serve.args(["--cache".as_ref(), cache.as_os_str()]).start()
    };
    assert!(of_code(&start().stop()).is_empty());
    let finished = start().stop();
    check_said(&finished, "the code in the cache is used");
    assert!(of_code(&finished)[0].str("saved").ends_with('s'));
}

/// The lines about code of a process with these services, each a component and its options.
fn of_services(services: &[(&Path, &str)]) -> Vec<String> {
    let scratch = Scratch::new();
    let text: String = services
        .iter()
        .enumerate()
        .map(|(number, (component, options))| {
            format!(
                "[services.s{number}]\nlisten = \"tcp://127.0.0.1:0\"\ncomponent = {component:?}\n\
                 {options}\n"
            )
        })
        .collect();
    let file = scratch.path("sockserve.toml");
    fs::write(&file, text).unwrap();
    let server = Server::of_config(&file, services.len());
    for address in &server.addresses {
        Client::connect(*address).check_echo("hello\n");
    }
    let finished = server.stop();
    let lines = of_code(&finished).into_iter();
    lines.map(|event| event.message().to_owned()).collect()
}

/// The second service of a component is not compiled again, and neither is the third.
#[test]
fn services_of_one_component_are_compiled_once() {
    let path = echo_blocking.path();
    let options = "dispatch = \"threaded\"";
    let other = "dispatch = \"sequential\"\nenv = { A = \"1\" }";
    let lines = of_services(&[(&path, options), (&path, other), (&path, options)]);
    assert_eq!(lines, ["the code of another version is used"; 2]);
}

/// Code from a component's own file is for the service that trusts it, and for no other.
#[test]
fn trusted_code_of_one_service_is_not_used_by_another() {
    let scratch = Scratch::new();
    let path = compiled(&scratch, &echo_blocking.path(), &[]);
    let dispatch = "dispatch = \"threaded\"";
    let trusts = format!("{dispatch}\nallow-precompiled = true");
    let lines = of_services(&[(&path, &trusts), (&path, dispatch)]);
    let [used, not_used] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(used, "the code in its file is used");
    assert!(
        not_used.ends_with("trust it by --allow-precompiled"),
        "{not_used}"
    );
}

/// An echo with two MiB of data in a module, as an interpreter has.
fn large(scratch: &Scratch, guest: crate::harness::Guest) -> PathBuf {
    let megabytes = "abcdefgh".repeat(2 << 17);
    let module = format!(r#"(module (memory 64) (data (i32.const 0) "{megabytes}"))"#);
    let module = wat::parse_str(module).unwrap();
    let mut bytes = fs::read(guest.path()).unwrap();
    // Section 1 of a component is a core module.
    bytes.push(1);
    let mut length = module.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(module);
    let path = scratch.path("large.wasm");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn large_instances_are_told_where_each_connection_has_one() {
    let scratch = Scratch::new();
    let said = |guest, options: &[&str]| {
        let path = large(&scratch, guest);
        let server = Serve::component(&path).args(options).start();
        server.connect().check_echo("large\n");
        let finished = server.stop();
        finished.check_no_alarm();
        let of_memory = |event: &&Event| event.message().contains(" of memory, and ");
        let found = finished.log.iter().find(of_memory);
        found.map(|event| event.message().to_owned())
    };
    assert_eq!(
        said(echo_blocking, &["--max-connections", "100"]).unwrap(),
        "each connection has an instance, which begins with 2.0 MiB of memory, and 100 have \
         200.7 MiB; use the contract evented or concurrent, where one instance serves all, or \
         lower --max-connections"
    );
    for (guest, options) in [
        (echo_evented, &[][..]),
        (echo_blocking, &["--dispatch", "sequential"]),
        (echo_blocking, &["--max-connections", "1"]),
    ] {
        assert_eq!(said(guest, options), None, "{options:?}");
    }
    let path = large(&scratch, echo_blocking);
    let lines = sockserve(["inspect".as_ref(), path.as_os_str()]).printed();
    assert_eq!(
        lines[4],
        "memory      an instance begins with 2.0 MiB, and each connection has one; use the \
         contract evented or concurrent, where one instance serves all"
    );
}

/// On a terminal it is said what is waited for; the line is gone at the end.
#[test]
fn a_terminal_shows_what_takes_its_time() {
    let scratch = Scratch::new();
    let (pipe, output) = (scratch.path("pipe"), scratch.path("compiled.wasm"));
    let made = run(Command::new("mkfifo").arg(&pipe));
    assert_eq!(made.status, Some(0), "{made:?}");
    // Nothing comes through it before the line is there.
    let mut writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let command = format!(
        "{} compile {} -o {}",
        env!("CARGO_BIN_EXE_sockserve"),
        pipe.display(),
        output.display()
    );
    let mut terminal = Command::new("script")
        .args([
            "--quiet",
            "--flush",
            "--return",
            "--command",
            &command,
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = terminal.stdout.take().unwrap();
    let (send, pieces) = channel();
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = shown.read(&mut piece) {
            let _ = send.send(String::from_utf8_lossy(&piece[..count]).into_owned());
        }
    });
    let line = format!("\rpreparing {}: ", pipe.display());
    let mut all = String::new();
    while !all.contains(&line) {
        let piece = pieces.recv_timeout(PATIENCE);
        all += &piece.unwrap_or_else(|error| panic!("{error}: {all:?}"));
    }
    writer
        .write_all(&fs::read(echo_blocking.path()).unwrap())
        .unwrap();
    drop(writer);
    while let Ok(piece) = pieces.recv_timeout(PATIENCE) {
        all += &piece;
    }
    assert!(terminal.wait().unwrap().success(), "{all}");
    let (_, after) = all.rsplit_once(" s\u{1b}[K\r").unwrap();
    assert!(after.starts_with("\r\u{1b}[K"), "{after:?}");
    assert!(after.contains("compiled.wasm  "), "{after:?}");
}

/// A pipe that nobody reads is refused, one that is read gets all, and a link is followed.
#[test]
fn what_the_output_names_is_written_or_refused() {
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    let made = run(Command::new("mkfifo").arg(&pipe));
    assert_eq!(made.status, Some(0), "{made:?}");
    let compile = |output: &Path| {
        let component = echo_blocking.path();
        sockserve([
            "compile".as_ref(),
            component.as_os_str(),
            "--force".as_ref(),
            "-o".as_ref(),
            output.as_os_str(),
        ])
    };
    let outcome = compile(&pipe);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stderr[0].contains("cannot write"), "{outcome:?}");
    let copy = scratch.path("copy");
    let mut reader = Command::new("cat")
        .arg(&pipe)
        .stdout(fs::File::create(&copy).unwrap())
        .spawn()
        .unwrap();
    // `cat` may not have opened the pipe yet.
    let both = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let outcome = compile(&pipe);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    drop(both);
    assert!(reader.wait().unwrap().success());
    let all = fs::read(&copy).unwrap();
    assert!(all.starts_with(b"\0asm") && all.len() > 100_000);

    let (link, target) = (scratch.path("link"), scratch.path("target"));
    std::os::unix::fs::symlink("target", &link).unwrap();
    compile(&link).printed();
    assert!(target.metadata().unwrap().len() > 100_000);
    assert!(link.symlink_metadata().unwrap().is_symlink());
}
