//! `--user` and `--group`: the process gives root up, and goes on as somebody else.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::command::{Outcome, run, sockserve};
use crate::harness::control::refusal;
use crate::harness::guests::echo_blocking;
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Serve, Server, tools};

const EXE: &str = env!("CARGO_BIN_EXE_sockserve");

/// A user and a group that no account has.
const USER: u32 = 54_321;
const GROUP: u32 = 54_322;
const OPTIONS: [&str; 4] = ["--user", "54321", "--group", "54322"];

/// Whether this is root. If not, says that what needs it is skipped.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: this needs root");
    }
    is_root
}

/// A directory that the user may write to.
fn own_directory(scratch: &Scratch) -> PathBuf {
    let path = scratch.path("own");
    fs::create_dir(&path).unwrap();
    chown(&path, Some(USER), Some(GROUP)).unwrap();
    path
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid())
}

/// A field of `/proc/PID/status` of each thread of a process.
fn of_threads(server: &Server, field: &str) -> Vec<Vec<u32>> {
    let tasks = format!("/proc/{}/task", server.process.id());
    let threads = fs::read_dir(tasks).unwrap().filter_map(|task| {
        // A thread may have ended in the meantime.
        let status = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix(field));
        let numbers = numbers.unwrap().split_whitespace();
        Some(numbers.map(|number| number.parse().unwrap()).collect())
    });
    threads.collect()
}

#[track_caller]
fn check_identity(server: &Server, user: u32, group: u32, groups: &[u32]) {
    for (field, expected) in [
        ("Uid:", &[user; 4][..]),
        ("Gid:", &[group; 4]),
        ("Groups:", groups),
    ] {
        let threads = of_threads(server, field);
        assert!(threads.len() > 2, "{threads:?}");
        for thread in threads {
            assert_eq!(thread, expected, "{field}");
        }
    }
}

/// A port that only root may bind, and that is free now.
fn low_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (600..1024).rev().find(is_free).unwrap()
}

fn status(control: &Path) -> Outcome {
    sockserve(["status".as_ref(), "--control".as_ref(), control.as_os_str()])
}

fn swap(control: &Path, component: &Path) -> Outcome {
    sockserve([
        "swap".as_ref(),
        "it".as_ref(),
        component.as_os_str(),
        "--control".as_ref(),
        control.as_os_str(),
    ])
}

/// All threads are the user's, a port of root's is served, and so is the next version.
#[test]
fn a_port_of_roots_is_served_by_the_user() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let own = own_directory(&scratch);
    let (control, local) = (own.join("control"), own.join("local"));
    let component = scratch.build(echo_blocking, 1);
    let url = format!("tcp://127.0.0.1:{}", low_port());
    let server = Serve::component(&component)
        .args(OPTIONS)
        .args(["--name", "it", "--control", control.to_str().unwrap()])
        .listen(&url)
        .listen(&format!("unix://{}", local.display()))
        .start();
    assert!(server.ready[0].starts_with(&format!("listening {url} ")));
    check_identity(&server, USER, GROUP, &[GROUP]);
    let mut client = server.connect();
    client.check_echo("hello");
    Client::connect_unix(&local).check_echo("hello");
    assert_eq!(owner(&control), (USER, GROUP));
    assert_eq!(owner(&local), (USER, GROUP));
    assert_eq!(fs::metadata(&control).unwrap().mode() & 0o777, 0o600);
    // Root may ask it, and the user may.
    status(&control).printed();
    if tools::have("setpriv", &["--version"]) {
        let exe = scratch.path("sockserve");
        fs::copy(EXE, &exe).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54322", "--clear-groups"]);
        command.arg(exe).args(["status", "--control"]).arg(&control);
        run(&mut command).printed();
    }
    // What the user may read is swapped in; what root may read only is not.
    swap(&control, &scratch.build(echo_blocking, 2)).printed();
    client.check_echo("over");
    server.connect().check_echo("again");
    let hidden = scratch.build(echo_blocking, 3);
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).unwrap();
    let why = refusal(&swap(&control, &hidden));
    assert!(why.contains("Permission denied"), "{why}");
    client.check_echo("still");
    drop(client);
    check_identity(&server, USER, GROUP, &[GROUP]);
    server.stop().check_no_alarm();
    assert!(!control.exists() && !local.exists());
}

/// The component, the cache and the state file are the user's, at the start too.
#[test]
fn files_are_the_users() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let own = own_directory(&scratch);
    let (cache, state) = (own.join("cache"), own.join("state"));
    let log = own.join("log");
    let server = Serve::component("builtin:kv-evented")
        .args(OPTIONS)
        .args(["--cache", cache.to_str().unwrap()])
        .args(["--state-file", state.to_str().unwrap()])
        .args(["--log-file", log.to_str().unwrap()])
        .start();
    let mut client = server.connect();
    client.send("SET a 1\n");
    client.expect("OK\r\n");
    drop(client);
    server.stop();
    assert_eq!(owner(&cache), (USER, GROUP));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(owner(&state), (USER, GROUP));
    // It was opened by root, and belongs to who may have to open it again.
    assert_eq!(owner(&log), (USER, GROUP));
    // What a swap could not read is refused at the start.
    let hidden = scratch.build(echo_blocking, 1);
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600)).unwrap();
    let serve = |more: &[&str]| {
        let mut command = Command::new(EXE);
        command.arg("serve").arg(&hidden).args(OPTIONS);
        command.args(["--listen", "tcp://127.0.0.1:0"]).args(more);
        run(&mut command)
    };
    let outcome = serve(&[]);
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    let line = outcome.stderr.last().unwrap();
    assert!(line.contains("Permission denied"), "{line}");
    // An address that cannot be bound leaves no socket behind.
    let control = own.join("control");
    let outcome = serve(&[
        "--control",
        control.to_str().unwrap(),
        "--listen",
        "tcp://192.0.2.1:1",
    ]);
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    assert!(!control.exists());
}

/// Where the user may not write, the socket's file stays. The log says so, and the next
/// start replaces it.
#[test]
fn a_socket_in_roots_directory_stays() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let control = scratch.path("control");
    for _ in 0..2 {
        let server = Serve::component("builtin:echo-blocking")
            .args(OPTIONS)
            .args(["--control", control.to_str().unwrap()])
            .start();
        let warning = server.wait_for_log("the warning", |event| !event.str("socket").is_empty());
        assert_eq!(warning.str("socket"), control.to_str().unwrap());
        assert!(warning.message().contains("will stay at the end"));
        status(&control).printed();
        server.stop();
        assert!(control.exists());
    }
    // Root's own start removes it.
    let server = Serve::component("builtin:echo-blocking")
        .args(["--control", control.to_str().unwrap()])
        .start();
    assert_eq!(owner(&control).0, 0);
    server.stop().check_no_alarm();
    assert!(!control.exists());
}

/// By its name a user has all of its groups.
#[test]
fn a_name_brings_its_groups() {
    if !is_root() {
        return;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let Some(entry) = passwd.lines().find(|line| line.starts_with("nobody:")) else {
        println!("skipped: this machine has no user nobody");
        return;
    };
    let fields: Vec<_> = entry.split(':').collect();
    let (uid, gid) = (fields[2].parse().unwrap(), fields[3].parse().unwrap());
    let groups = run(Command::new("id").args(["-G", "nobody"])).printed();
    let mut groups: Vec<u32> = groups[0].split(' ').map(|it| it.parse().unwrap()).collect();
    groups.sort_unstable();
    let server = Serve::component("builtin:echo-evented")
        .args(["--user", "nobody"])
        .start();
    check_identity(&server, uid, gid, &groups);
    server.connect().check_echo("hello");
    server.stop().check_no_alarm();
}

#[test]
fn wrong_identities_are_refused() {
    let serve = |options: &[&str]| {
        let mut command = Command::new(EXE);
        command.args([
            "serve",
            "builtin:echo-evented",
            "--listen",
            "tcp://127.0.0.1:0",
        ]);
        command.args(options);
        run(&mut command)
    };
    let check = |options: &[&str], part: &str| {
        let outcome = serve(options);
        assert_eq!(outcome.status, Some(2), "{outcome:#?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:#?}");
        assert!(outcome.stderr[0].contains(part), "{outcome:#?}");
    };
    check(&["--user", "no-such-user"], "`getent passwd` lists them");
    check(
        &["--user", "0", "--group", "no-such"],
        "`getent group` lists them",
    );
    check(&["--user", "4294967295"], "no user has this number");
    check(&["--user", "54321"], "add --group GROUP");
    check(&["--group", "0"], "--user <USER>");
}

/// Who is not root cannot become somebody else, and is told what would work.
#[test]
fn only_root_becomes_somebody_else() {
    if !is_root() || !tools::have("setpriv", &["--version"]) {
        return;
    }
    let scratch = Scratch::new();
    let exe = scratch.path("sockserve");
    fs::copy(EXE, &exe).unwrap();
    let serve = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54322", "--clear-groups"]);
        command.arg(&exe).args(["serve", "builtin:no-such"]);
        command.args([
            "--listen",
            "tcp://127.0.0.1:0",
            "--user",
            user,
            "--group",
            "54322",
        ]);
        refusal(&run(&mut command))
    };
    let why = serve("54320");
    assert!(why.contains("cannot become the user 54320"), "{why}");
    assert!(
        why.contains("start it as root, or as 54320 without --user"),
        "{why}"
    );
    // Itself it is already.
    let why = serve("54321");
    assert!(why.contains("there is no builtin:no-such"), "{why}");
}
