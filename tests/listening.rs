//! What listeners and accepted sockets are set to, because WASI has no word for it: no
//! delay, an address that is used again, and the backlog.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitOptions, pidfd_getfd, pidfd_open, waitpid,
};

use crate::harness::guests::echo_evented;
use crate::harness::{Client, Guest, PATIENCE, Serve, Server, text};

/// Every descriptor of a server, as descriptors of this process. `None` if the system
/// does not give them to a parent.
fn descriptors(server: &Server) -> Option<Vec<OwnedFd>> {
    let id = server.process.id();
    let process = Pid::from_raw(id.try_into().unwrap()).unwrap();
    let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let mut all = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{id}/fd")).unwrap() {
        let number = entry.unwrap().file_name().into_string().unwrap();
        match pidfd_getfd(&process, number.parse().unwrap(), PidfdGetfdFlags::empty()) {
            Ok(descriptor) => all.push(descriptor),
            Err(Errno::PERM | Errno::NOSYS) => {
                println!("skipped: no pidfd_getfd for a parent on this system");
                return None;
            }
            // It was closed in the meantime.
            Err(Errno::BADF) => {}
            Err(error) => panic!("{error}"),
        }
    }
    Some(all)
}

/// A handler writes in small pieces, and cannot ask for this itself.
#[test]
fn accepted_sockets_have_no_delay() {
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .listen("tcp://127.0.0.1:0")
        .listen("tcp://[::1]:0")
        .start();
    for address in &server.addresses {
        let mut client = Client::connect(*address);
        client.check_echo("hello");
        let Some(all) = descriptors(&server) else {
            return;
        };
        let peer = |socket: &OwnedFd| {
            let name = rustix::net::getpeername(socket).ok()??;
            SocketAddr::try_from(name).ok()
        };
        let own = client.local();
        let accepted = all.iter().find(|socket| peer(socket) == Some(own));
        assert!(sockopt::tcp_nodelay(accepted.unwrap()).unwrap());
    }
    server.stop().check_no_alarm();
}

for_each_pair! { echo by default: a_port_is_taken_again_at_once }
/// What the service has closed stays with the kernel for a minute (TIME_WAIT), and does
/// not keep the next process from the port.
fn a_port_is_taken_again_at_once(guest: Guest, dispatch: &str) {
    let start = |url: &str| {
        Serve::guest(guest, dispatch)
            .compiled_once()
            .env("MODE=hello")
            .listen(url)
            .start()
    };
    let first = start("tcp://127.0.0.1:0");
    let url = format!("tcp://{}", first.address());
    let mut client = first.connect();
    let ports = [first.port(), client.local().port()];
    assert_eq!(text(client.read_to_end()), r"Hello World!\n");
    drop(client);
    first.stop().check_no_alarm();
    wait_for_time_wait(ports);
    let second = start(&url);
    assert_eq!(text(second.connect().read_to_end()), r"Hello World!\n");
    second.stop().check_no_alarm();
}

/// Waits until the connection between two ports of 127.0.0.1 is in TIME_WAIT at the
/// first one.
#[track_caller]
fn wait_for_time_wait(ports: [u16; 2]) {
    let both = ports.map(|port| format!("0100007F:{port:04X}")).join(" ");
    let row = format!(" {both} 06 ");
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string("/proc/net/tcp")
        .unwrap()
        .contains(&row)
    {
        assert!(Instant::now() < deadline, "no TIME_WAIT: {both}");
        std::thread::yield_now();
    }
}

/// The kernel completes as many connections as the backlog has room for, and one more.
/// Others try again until there is room.
#[test]
fn the_backlog_is_what_was_asked_for() {
    let server = Serve::guest(echo_evented, "poll")
        .compiled_once()
        .args(["--backlog", "2"])
        .start();
    // A stopped process accepts nothing; its kernel does.
    server.process.signal(Signal::STOP);
    let stopped = Pid::from_raw(server.process.id().try_into().unwrap());
    waitpid(stopped, WaitOptions::UNTRACED).unwrap();
    let connect = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        match rustix::net::connect(&socket, &server.address()) {
            Ok(()) | Err(Errno::INPROGRESS) => socket,
            Err(error) => panic!("{error}"),
        }
    };
    let is_connected = |socket: &OwnedFd, patience: &Timespec| {
        let mut sockets = [PollFd::new(socket, PollFlags::OUT)];
        poll(&mut sockets, Some(patience)).unwrap() == 1
    };
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let waiting: Vec<_> = (0..3).map(|_| connect()).collect();
    for socket in &waiting {
        assert!(is_connected(socket, &patience));
    }
    // The handshake of loopback is done inside of the call, if it is done at all.
    let late = connect();
    assert!(!is_connected(&late, &Timespec::default()));
    server.process.signal(Signal::CONT);
    assert!(is_connected(&late, &patience));
    for socket in waiting.into_iter().chain([late]) {
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        // Both kinds of stream are the same to it.
        Client::of_unix(socket.into()).check_echo("hello");
    }
    server.stop().check_no_alarm();
}
