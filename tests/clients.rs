//! Real clients that people have at hand: `nc` and `socat`. Where they are not
//! installed the tests say so and pass.

use std::process::Command;

use crate::chat::WELCOME;
use crate::harness::command::run;
use crate::harness::tools::{have, have_nc};
use crate::harness::{Guest, Serve, Server, ctime};

/// Runs a line of shell with the server's port as `$1`, and gives what it
/// prints.
#[track_caller]
fn shell(line: &str, server: &Server) -> String {
    let port = server.port().to_string();
    let outcome = run(Command::new("sh").args(["-c", line, "sh", &port]));
    // No line ending is added to what is split at them.
    let printed = outcome.printed();
    printed.join("\n")
}

/// What each family answers, as a shell sees it, to a client that says nothing
/// and to one that says `hello` and `world` and then half-closes.
#[track_caller]
fn check(guest: Guest, server: &Server, client: &str) {
    let now = ctime::now();
    let silent = shell(&format!("{client} </dev/null"), server);
    let talking = shell(&format!(r"printf 'hello\nworld\n' | {client}"), server);
    match guest.family() {
        "echo" => assert_eq!([silent, talking], ["", "hello\nworld"]),
        "upper" => assert_eq!([silent, talking], ["", "HELLO\nWORLD"]),
        "time" => {
            for answer in [silent, talking] {
                ctime::check(format!("{answer}\r\n").as_bytes(), now);
            }
        }
        _ => {
            let welcome = WELCOME.trim_end();
            assert_eq!([silent, talking], [welcome, welcome]);
        }
    }
}

for_each_pair! { chat, echo, time, upper, echo_commands, time_commands, upper_commands: every_builtin_serves_what_people_have_at_hand }
fn every_builtin_serves_what_people_have_at_hand(guest: Guest, dispatch: &str) {
    let mut clients = Vec::new();
    if have_nc() {
        clients.push("nc -N 127.0.0.1 $1");
    }
    if have("socat", &["-V"]) {
        // It gives the other direction 20 s after the end of one.
        clients.push("socat -t 20 - TCP:127.0.0.1:$1");
    }
    let server = Serve::component(guest.builtin())
        .args(["--dispatch", dispatch])
        .start();
    for client in &clients {
        check(guest, &server, client);
    }
    server.stop().check_no_alarm();
}
