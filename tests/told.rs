//! What a handler is told of its connection by `connection-info`, for each transport.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, Serve};

for_each_pair! { faults: a_handler_knows_who_is_there }
fn a_handler_knows_who_is_there(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let path = scratch.path("s");
    let name = format!("sockserve-test-{}-{}", std::process::id(), path.display());
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env("MODE=describe")
        .args(["--name", "desk"])
        .listen("tcp://127.0.0.1:0")
        .listen("tcp://[::1]:0")
        .listen(&format!("unix://{}", path.display()))
        .start();
    let mut number = 0;
    let mut check = |mut client: Client, transport: &str, addresses: [&str; 2], who: &[String]| {
        number += 1;
        let [peer, local] = addresses;
        let mut expected = vec![
            format!("connection={number}"),
            "service=desk".to_owned(),
            format!("transport={transport}"),
            format!("peer={peer}"),
            format!("local={local}"),
        ];
        expected.extend_from_slice(who);
        let told = String::from_utf8(client.read_to_end()).unwrap();
        assert_eq!(told.lines().collect::<Vec<_>>(), expected);
        // The log has the same number.
        let opened = server.wait_for_log("the connection", |event| {
            event.message() == "connection opened" && event.connection() == Some(number)
        });
        if transport == "tcp" {
            assert_eq!(opened.str("peer"), peer);
        }
    };
    for address in &server.addresses {
        let client = Client::connect(*address);
        let addresses = [client.local(), *address].map(|it| it.to_string());
        let addresses = addresses.each_ref().map(String::as_str);
        check(client, "tcp", addresses, &["credentials=none".to_owned()]);
    }
    let this_process = [
        format!("pid={}", std::process::id()),
        format!("uid={}", rustix::process::geteuid().as_raw()),
        format!("gid={}", rustix::process::getegid().as_raw()),
    ];
    let local = path.to_str().unwrap();
    let client = Client::connect_unix(&path);
    check(client, "unix", ["", local], &this_process);
    // Clients with names: a path, and one of the abstract namespace.
    let own = scratch.path("own");
    let names = [
        (
            SocketAddrUnix::new(&own).unwrap(),
            own.display().to_string(),
        ),
        (
            SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap(),
            format!("@{name}"),
        ),
    ];
    for (bound, peer) in names {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &bound).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let client = Client::of_unix(socket.into());
        check(client, "unix", [&peer, local], &this_process);
    }
    server.stop().check_no_alarm();
}
