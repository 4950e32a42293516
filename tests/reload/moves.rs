//! Addresses that go from one service to another.

use std::net::SocketAddr;

use super::{Configured, free};
use crate::harness::Client;

/// A service at a TCP address.
fn at(name: &str, component: &str, address: SocketAddr) -> String {
    format!("[services.{name}]\nlisten = \"tcp://{address}\"\ncomponent = {component:?}\n")
}

/// Who waits at the address of a service with another name is served by that, and who is
/// connected stays with the one before.
#[test]
fn a_service_may_have_another_name() {
    let address = free();
    let before = at("before", "builtin:echo-evented", address);
    let configured = Configured::start(&before, 1);
    let mut old = Client::connect(address);
    old.check_echo("old\n");
    configured.command(&["suspend", "before"]).printed();
    let mut waiting: Vec<_> = (0..5).map(|_| Client::connect(address)).collect();
    for client in &mut waiting {
        client.send("waiting\n");
    }
    let after = at("after", "builtin:upper-evented", address);
    let said = configured.reload(&after);
    assert_eq!(said, ["added after", "removed before"]);
    for client in &mut waiting {
        client.expect("WAITING\n");
    }
    old.check_echo("still old\n");
    assert_eq!(configured.status("after")["accepted"], 5);
    assert_eq!(configured.status("before")["accepted"], 1);
    old.finish_sending();
    old.expect_eof();
    configured.server.wait_for_log("its end", |event| {
        event.message() == "stopped" && event.str("service") == "before"
    });
    // It has ended, and nobody else's address with it.
    let mut new = Client::connect(address);
    new.send("new\n");
    new.expect("NEW\n");
}

#[test]
fn two_services_change_places() {
    let (one, two) = (free(), free());
    let both = |echo, upper| {
        at("echo", "builtin:echo-evented", echo) + &at("upper", "builtin:upper-blocking", upper)
    };
    let configured = Configured::start(&both(one, two), 2);
    let mut echo = Client::connect(one);
    echo.check_echo("before\n");
    let said = configured.reload(&both(two, one));
    assert_eq!(said, ["changed echo: listen", "changed upper: listen"]);
    echo.check_echo("after\n");
    for (address, answer) in [(one, "ABC\n"), (two, "abc\n")] {
        for _ in 0..3 {
            let mut client = Client::connect(address);
            client.send("abc\n");
            client.expect(answer);
        }
    }
    // And back.
    configured.reload(&both(one, two));
    Client::connect(one).check_echo("back\n");
}

/// The file of a Unix socket goes with it.
#[test]
fn a_socket_file_goes_with_its_socket() {
    let service = |name: &str| {
        format!(
            "[services.{name}]\nlisten = \"unix:echo.sock\"\ncomponent = \"builtin:echo-evented\"\n"
        )
    };
    let configured = Configured::start(&service("before"), 1);
    let path = configured.directory.0.path("echo.sock");
    configured.reload(&service("after"));
    Client::connect_unix(&path).check_echo("after\n");
    configured.server.wait_for_log("its end", |event| {
        event.message() == "stopped" && event.str("service") == "before"
    });
    Client::connect_unix(&path).check_echo("after\n");
    let mut server = configured.server;
    server.terminate();
    assert_eq!(server.process.wait().code(), Some(0));
    assert!(!path.exists());
}

/// A reload that is refused takes nothing away.
#[test]
fn a_refused_move_leaves_the_address_where_it_was() {
    let address = free();
    let before = at("before", "builtin:echo-evented", address);
    let configured = Configured::start(&before, 1);
    let after = at("after", "builtin:upper-evented", address);
    let wrong = super::service("wrong", "no-such-file.wasm", "");
    let refused = configured.refused(&(after + &wrong));
    assert!(refused.contains("no-such-file.wasm"), "{refused}");
    for _ in 0..3 {
        Client::connect(address).check_echo("before\n");
    }
    let datagrams = |name: &str, address| {
        let url = format!("udp://{address}");
        format!("[services.{name}]\nlisten = {url:?}\ncomponent = \"builtin:echo-datagram\"\n")
    };
    let other = free();
    configured.reload(&(before.clone() + &datagrams("one", other)));
    let refused = configured.refused(&(before.clone() + &datagrams("two", other)));
    let expected = "is that of the service one, whose datagrams cannot go to another service";
    assert!(refused.contains(expected), "{refused}");
    let other_mode = format!(
        "{}reuse-port = true\n",
        at("after", "builtin:echo-evented", address)
    );
    let refused = configured.refused(&(other_mode + &datagrams("one", other)));
    let expected = "is that of the service before, which listens with other options";
    assert!(refused.contains(expected), "{refused}");
    Client::connect(address).check_echo("before\n");
}
