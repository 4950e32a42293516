//! A clock that is before 1970 or after 9999 harms nobody.

use std::fs;
use std::process::Command;

use crate::harness::control::Controlled;
use crate::harness::scratch::Scratch;
use crate::harness::{Guest, Serve, tools};

/// Moves the clock of a process.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *to) {
    long rc = syscall(SYS_clock_gettime, clock, to);
    const char *offset = getenv("CLOCK_OFFSET");
    if (clock == CLOCK_REALTIME && offset) to->tv_sec += atoll(offset);
    return (int)rc;
}
"#;

for_each_pair! { time under poll: a_wrong_clock_harms_nobody }
// From: case 27.
fn a_wrong_clock_harms_nobody(guest: Guest, dispatch: &str) {
    if !tools::have("cc", &["--version"]) {
        return;
    }
    let scratch = Scratch::new();
    let (source, library) = (scratch.path("clock.c"), scratch.path("clock.so"));
    fs::write(&source, CLOCK).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.unwrap().success());
    for (offset, year) in [("-2000000000", "1970"), ("300000000000", "11533")] {
        let before = format!(
            "export LD_PRELOAD={} CLOCK_OFFSET={offset}",
            library.display()
        );
        let scratch = Scratch::new();
        let server = Serve::guest_after(&before, guest, dispatch)
            .args(["--control".as_ref(), scratch.path("control").as_os_str()])
            .env("MODE=line")
            .start();
        let controlled = Controlled { server, scratch };
        let server = &controlled.server;
        for _ in 0..2 {
            let mut client = server.connect();
            client.send("\r\n");
            let line = client.line();
            assert!(line.ends_with(&format!(" {year}\r\n")), "{line}");
        }
        // More than one poll of the socket, and a body.
        for _ in 0..2 {
            assert_eq!(controlled.status()["accepted"], 2);
        }
        let why = controlled.try_swap("/nowhere.wasm").unwrap_err();
        assert!(why.contains("/nowhere.wasm"), "{why}");
        // Every line of the log is one, with a time.
        controlled.server.stop().check_no_alarm();
    }
}
