//! What a guest can reach beyond its connection: nothing, until it is granted by
//! name. Grants do not depend on the dispatch, so most tests use one that suits all
//! contracts.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketType};

use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, Server, text};

/// Starts a guest in this mode with these grants, and gives the server to `check`.
#[track_caller]
fn serve(guest: Guest, dispatch: &str, mode: &str, grants: &[&str], check: impl FnOnce(&Server)) {
    let server = super::serve(guest, dispatch, mode, 10).args(grants).start();
    check(&server);
    server.stop().check_no_alarm();
}

/// Sends a line, and gives the answer.
#[track_caller]
fn ask(server: &Server, question: &str) -> String {
    let mut client = server.connect();
    client.send(format!("{question}\n"));
    text(client.read_to_end())
}

for_each_pair! { faults under poll: outbound_is_denied }
fn outbound_is_denied(guest: Guest, dispatch: &str) {
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap().to_string();
    // What else is granted does not matter.
    for grants in [
        &[][..],
        &["--allow-lookup"],
        &["--env", "A=B", "--dir", "/tmp"],
    ] {
        serve(guest, dispatch, "MODE=outbound", grants, |server| {
            assert_eq!(ask(server, &address), r"access-denied\r\n");
            assert_eq!(ask(server, "[::1]:80"), r"access-denied\r\n");
        });
    }
}

for_each_pair! { faults under poll: outbound_goes_where_it_is_granted }
fn outbound_goes_where_it_is_granted(guest: Guest, dispatch: &str) {
    let places = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [granted, other] = places.each_ref().map(|place| place.local_addr().unwrap());
    // Bound and not listening: nobody else has this port, and nobody answers.
    let silent = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&silent, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let refused = SocketAddr::try_from(rustix::net::getsockname(&silent).unwrap()).unwrap();
    let names = [granted, refused].map(|address| address.to_string());
    let grants = ["--allow-connect", &names[0], "--allow-connect", &names[1]];
    serve(guest, dispatch, "MODE=outbound", &grants, |server| {
        assert_eq!(ask(server, &granted.to_string()), r"connected\r\n");
        assert_eq!(ask(server, &other.to_string()), r"access-denied\r\n");
        assert_eq!(ask(server, &refused.to_string()), r"connection-refused\r\n");
        let elsewhere = format!("127.0.0.2:{}", granted.port());
        assert_eq!(ask(server, &elsewhere), r"access-denied\r\n");
    });
}

for_each_pair! { faults under poll: outbound_grants_have_wildcards_and_names }
fn outbound_grants_have_wildcards_and_names(guest: Guest, dispatch: &str) {
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    let port = address.port();
    for grant in [
        "*:*".to_owned(),
        "127.0.0.1:*".to_owned(),
        format!("localhost:{port}"),
    ] {
        serve(
            guest,
            dispatch,
            "MODE=outbound",
            &["--allow-connect", &grant],
            |server| {
                assert_eq!(ask(server, &address.to_string()), r"connected\r\n");
            },
        );
    }
}

for_each_pair! { faults under poll: lookup_is_denied }
fn lookup_is_denied(guest: Guest, dispatch: &str) {
    serve(
        guest,
        dispatch,
        "MODE=lookup",
        &["--allow-connect", "*:*"],
        |server| {
            assert_eq!(ask(server, "localhost"), r"permanent-resolver-failure\r\n");
        },
    );
}

for_each_pair! { faults under poll: lookup_is_granted }
fn lookup_is_granted(guest: Guest, dispatch: &str) {
    serve(
        guest,
        dispatch,
        "MODE=lookup",
        &["--allow-lookup"],
        |server| {
            let answer = ask(server, "localhost");
            let found = [r"127.0.0.1\r\n", r"::1\r\n"]
                .iter()
                .any(|it| answer.contains(it));
            assert!(found, "{answer}");
        },
    );
}

for_each_pair! { faults under poll: a_lookup_that_fails_says_why }
/// RFC 6761: nobody has a name below `invalid`.
fn a_lookup_that_fails_says_why(guest: Guest, dispatch: &str) {
    let grants = ["--allow-lookup"];
    serve(guest, dispatch, "MODE=lookup", &grants, |server| {
        assert_eq!(ask(server, "nowhere.invalid"), r"name-unresolvable\r\n");
        assert_eq!(ask(server, "no name"), r"invalid-argument\r\n");
    });
}

for_each_pair! { faults under poll: the_environment_is_what_is_granted }
/// Nothing of the host's environment, and all that is granted.
fn the_environment_is_what_is_granted(guest: Guest, dispatch: &str) {
    serve(
        guest,
        dispatch,
        "MODE=env",
        &["--env", "A=1", "--env", "EMPTY=", "--env", "B=x=y z"],
        |server| {
            let answer = server.connect().read_to_end();
            let answer = String::from_utf8(answer).unwrap();
            let mut variables: Vec<&str> = answer.lines().collect();
            variables.sort_unstable();
            assert_eq!(variables, ["A=1", "B=x=y z", "EMPTY=", "MODE=env"]);
        },
    );
}

/// A directory `inside` with a file in it, and a file beside it.
fn directories() -> Scratch {
    let outside = Scratch::new();
    let inside = outside.path("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(outside.path("secret"), "secret").unwrap();
    fs::write(inside.join("file"), "content").unwrap();
    outside
}

for_each_pair! { faults under poll: files_are_denied }
fn files_are_denied(guest: Guest, dispatch: &str) {
    let scratch = directories();
    let file = scratch.path("inside/file");
    serve(guest, dispatch, "MODE=dir", &[], |server| {
        let answer = ask(server, file.to_str().unwrap());
        assert!(answer.starts_with("error: "), "{answer}");
    });
}

for_each_pair! { faults under poll: files_are_granted_by_directory }
fn files_are_granted_by_directory(guest: Guest, dispatch: &str) {
    let scratch = directories();
    let directory = scratch.path("inside");
    let grant = format!("{}::/data", directory.display());
    serve(guest, dispatch, "MODE=dir", &["--dir", &grant], |server| {
        assert_eq!(ask(server, "/data/file"), "content");
        for path in [
            "/data/../secret",
            "/data/none",
            "/etc/passwd",
            directory.to_str().unwrap(),
        ] {
            let answer = ask(server, path);
            assert!(answer.starts_with("error: "), "{path}: {answer}");
        }
    });
    // Under its own name.
    serve(
        guest,
        dispatch,
        "MODE=dir",
        &["--dir", directory.to_str().unwrap()],
        |server| {
            let file = directory.join("file");
            assert_eq!(ask(server, file.to_str().unwrap()), "content");
        },
    );
}

/// What every contract answers for an accepted socket: options that stick, and
/// calls that a connected socket refuses.
const OPTIONS: [&str; 36] = [
    "is-listening=false",
    "set-keep-alive-enabled=ok",
    "keep-alive-enabled=true",
    "set-keep-alive-idle-time=ok",
    "keep-alive-idle-time=30000000000",
    "set-keep-alive-interval=ok",
    "keep-alive-interval=5000000000",
    "set-keep-alive-count=ok",
    "keep-alive-count=4",
    "set-hop-limit=ok",
    "hop-limit=42",
    "set-receive-buffer-size=ok",
    "receive-buffer-size=65536",
    "set-send-buffer-size=ok",
    "send-buffer-size=65536",
    "keep-alive-idle-time-zero=invalid-argument",
    "keep-alive-idle-time-one=1000000000",
    "keep-alive-idle-time-max=32767000000000",
    "keep-alive-interval-zero=invalid-argument",
    "keep-alive-interval-one=1000000000",
    "keep-alive-interval-max=32767000000000",
    "keep-alive-count-zero=invalid-argument",
    "keep-alive-count-one=1",
    "keep-alive-count-max=127",
    "hop-limit-zero=invalid-argument",
    "hop-limit-one=1",
    "hop-limit-max=255",
    "receive-buffer-size-zero=invalid-argument",
    "receive-buffer-size-one=1",
    "receive-buffer-size-max=1",
    "send-buffer-size-zero=invalid-argument",
    "send-buffer-size-one=1",
    "send-buffer-size-max=1",
    "bind=invalid-state",
    "connect=invalid-state",
    "listen=invalid-state",
];

for_each_pair! { faults: the_accepted_socket_is_a_real_one }
fn the_accepted_socket_is_a_real_one(guest: Guest, dispatch: &str) {
    let server = super::serve(guest, dispatch, "MODE=options", 1)
        .listen("tcp://127.0.0.1:0")
        .listen("tcp://[::1]:0")
        .start();
    for (address, family) in server.addresses.iter().zip(["ipv4", "ipv6"]) {
        let mut client = Client::connect(*address);
        let answer = String::from_utf8(client.read_to_end()).unwrap();
        let mut expected: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
        expected.push(format!("family={family}"));
        expected.push(format!("local-address={address}"));
        expected.push(format!("remote-address={}", client.local()));
        let more: &[&str] = match guest.contract() {
            "concurrent" => &["receive-again=invalid-state", "send-again=invalid-state"],
            _ => &["accept=invalid-state"],
        };
        expected.extend(more.iter().map(|line| (*line).to_owned()));
        let mut lines: Vec<&str> = answer.lines().collect();
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }
    server.stop().check_no_alarm();
}
