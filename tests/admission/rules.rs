//! Rules about addresses, from arguments and from files, and times of the day.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::{check_sums, connect_from, refusals, start};
use crate::harness::guests::{echo_blocking, echo_evented};
use crate::harness::process::Process;
use crate::harness::server::CACHE;
use crate::harness::tools::have;
use crate::harness::{Client, Guest, Serve};

for_each_pair! { echo: the_most_specific_block_decides }
fn the_most_specific_block_decides(guest: Guest, dispatch: &str) {
    let rules = [
        "--allow",
        "127.0.0.0/16",
        "--deny",
        "127.0.1.0/24",
        "--allow",
        "127.0.1.5",
    ];
    let controlled = start(guest, dispatch, &rules);
    let mut came = 0;
    let mut refused = 0;
    for (source, is_let_in) in [
        ([127, 0, 0, 1], true),
        ([127, 0, 1, 4], false),
        ([127, 0, 1, 5], true),
        // No block names it, and there are allowed ones.
        ([127, 1, 0, 1], false),
    ] {
        let mut client = connect_from(&controlled, source);
        came += 1;
        if is_let_in {
            client.check_echo("hello");
        } else {
            client.expect_eof();
            refused += 1;
        }
        drop(client);
        controlled.wait_for_status("nobody", |status| status["open"] == 0);
        check_sums(&controlled, came, "rules", refused);
    }
    let finished = controlled.server.stop();
    let (said, sums) = refusals(&finished);
    assert_eq!((said.len(), sums.len()), (1, 1), "{said:?} {sums:?}");
    assert!(said[0].str("peer").starts_with("127.0.1.4:"), "{said:?}");
    assert_eq!(sums[0].number("count"), Some(1));
}

#[test]
fn blocks_come_from_files_too() {
    let scratch = crate::harness::scratch::Scratch::new();
    let path = scratch.path("denied");
    std::fs::write(
        &path,
        "# not these\n127.0.0.2\n\n127.0.1.0/24 # nor these\n",
    )
    .unwrap();
    let deny = format!("@{}", path.display());
    let controlled = start(echo_blocking, "poll", &["--deny", &deny]);
    controlled.server.connect().check_echo("hello");
    connect_from(&controlled, [127, 0, 0, 2]).expect_eof();
    connect_from(&controlled, [127, 0, 1, 200]).expect_eof();
    check_sums(&controlled, 3, "rules", 2);
}

/// A listener for both families, which another program has opened: there an IPv4 peer has
/// an IPv6 address.
#[test]
fn an_ipv4_mapped_peer_is_known_by_its_ipv4_address() {
    if !have("python3", &["--version"]) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/launch.py");
    for deny in ["127.0.0.2", "::ffff:127.0.0.2"] {
        let mut command = Command::new("python3");
        command.arg(&script).args(["activate", "dual", "x", "--"]);
        command.args([env!("CARGO_BIN_EXE_sockserve"), "--log-format", "json"]);
        command.args(["serve", "builtin:echo-evented", "--cache", CACHE]);
        command.args(["--listen", "fd://x", "--deny", deny]);
        let mut process = Process::start(&mut command);
        let port = crate::harness::server::ready_address(&process).port();
        let v4 = SocketAddr::from(([127, 0, 0, 1], port));
        Client::connect(v4).check_echo("hello");
        Client::connect_from([127, 0, 0, 2], v4).expect_eof();
        process.signal(Signal::TERM);
        assert!(process.wait().success());
        let log = process.stderr.lines();
        let said = |line: &String| line.contains("refused; more") && line.contains("rules");
        assert!(log.iter().any(said), "{log:#?}");
    }
}

#[test]
fn rules_are_for_ipv6_too() {
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen("tcp://[::1]:0")
        .args(["--deny", "::/0"])
        .start();
    server.connect().expect_eof();
    server.stop();
    // No IPv4 address is in a block of IPv6.
    let controlled = start(echo_evented, "poll", &["--deny", "::/0"]);
    controlled.server.connect().check_echo("hello");
}

/// The minute of the day that it is in UTC so many hours from now, as text.
fn in_hours(hours: u64, minutes: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let minute = (now.as_secs() / 60 + hours * 60 + minutes) % (24 * 60);
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Local time is what TZ says. The span is around the time that it is five hours east of
/// Greenwich.
#[test]
fn peers_come_in_at_their_time_of_the_day() {
    let span = format!("{}-{}", in_hours(4, 30), in_hours(5, 30));
    let start = |zone: &str, spans: &[&str]| {
        let spans = spans.iter().flat_map(|span| ["--access-times", *span]);
        Serve::guest(echo_blocking, "threaded")
            .compiled_once()
            .args(spans)
            .variable("TZ", zone)
            .start()
    };
    let east = start("EAST-5", &[&span]);
    east.connect().check_echo("hello");
    east.stop().check_no_alarm();
    let here = start("UTC0", &[&span]);
    here.connect().expect_eof();
    let finished = here.stop();
    assert_eq!(refusals(&finished).0[0].str("reason"), "access-times");
    // Another span, which goes on until tomorrow, or began yesterday.
    let other = format!("{}-{}", in_hours(23, 0), in_hours(22, 0));
    let both = start("UTC0", &[&span, &other]);
    both.connect().check_echo("hello");
    both.stop().check_no_alarm();
}
