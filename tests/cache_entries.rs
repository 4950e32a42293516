//! What is in a cache of compiled components, and who may put it there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::harness::command::sockserve;
use crate::harness::control::{Controlled, refusal};
use crate::harness::guests::echo_blocking;
use crate::harness::scratch::Scratch;
use crate::harness::{Serve, Server};

fn start(cache: &Path) -> Server {
    Serve::guest(echo_blocking, "threaded")
        .args(["--cache".as_ref(), cache.as_os_str()])
        .start()
}

/// Before the code: what the file is, the checksum, and the time of the compiler.
const HEAD: usize = 16 + 32 + 8;

fn only_entry(cache: &Path) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(cache).unwrap().collect();
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    entry.as_ref().unwrap().path()
}

/// An entry that is not what it was is compiled again and never run.
#[test]
fn a_flipped_bit_is_compiled_again() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    start(&cache).stop().check_no_alarm();
    assert_eq!(
        fs::metadata(&cache).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let entry = only_entry(&cache);
    let whole = fs::read(&entry).unwrap();
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    let mut head = whole.clone();
    head[3] ^= 1;
    for damaged in [&flipped[..], &head, &whole[..middle], b"", b"\0"] {
        fs::write(&entry, damaged).unwrap();
        let server = start(&cache);
        server.connect().check_echo("compiled again\n");
        let finished = server.stop();
        let alarms = finished.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].message().contains("damaged"), "{alarms:?}");
        // The compiler may have taken another time.
        assert!(fs::read(&entry).unwrap()[HEAD..] == whole[HEAD..]);
    }
    // Something in its place that is no file.
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    let server = start(&cache);
    server.connect().check_echo("compiled again\n");
    assert_eq!(server.stop().alarms().len(), 1);
}

/// A cache that cannot be written any more is said once, and does no harm.
#[test]
fn a_cache_that_is_gone_is_said_once() {
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let options = ["--cache", cache.to_str().unwrap()];
    let controlled = Controlled::start(echo_blocking, "threaded", &options);
    fs::remove_dir_all(&cache).unwrap();
    for number in 1..4 {
        controlled.swap(controlled.scratch.build(echo_blocking, number), &[]);
        controlled.server.connect().check_echo("without\n");
    }
    let finished = controlled.server.stop();
    let alarms = finished.alarms();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(
        alarms[0].message().contains("cannot be written"),
        "{alarms:?}"
    );
}

// From: review of 2026-11-25, 3.8.
#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let scratch = Scratch::new();
    let refused = |directory: &Path, part: &str| {
        let listen = ["--listen", "tcp://127.0.0.1:0", "--cache"];
        let serve = ["serve", "builtin:echo-blocking"];
        let directory = [directory.to_str().unwrap()];
        let line = refusal(&sockserve([&serve[..], &listen, &directory].concat()));
        assert!(
            line.contains("as the cache of compiled components"),
            "{line}"
        );
        assert!(line.contains(part), "{line}");
    };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let above = scratch.path("above");
    let cache = above.join("cache");
    fs::create_dir_all(&cache).unwrap();
    for wrong in [0o777, 0o770, 0o707, 0o1777] {
        mode(&cache, wrong);
        refused(&cache, "chmod go-w");
    }
    mode(&cache, 0o700);
    // A user who can write there can put another directory in its place.
    mode(&above, 0o777);
    refused(&cache, "chmod go-w");
    mode(&above, 0o755);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&cache, Some(12345), None).unwrap();
        refused(&cache, "belongs to user 12345");
        std::os::unix::fs::chown(&cache, Some(0), None).unwrap();
    }
    start(&cache).stop().check_no_alarm();
}
