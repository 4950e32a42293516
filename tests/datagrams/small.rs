//! The time of day over datagrams, and inetd's small servers over everything.

use std::io::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Peer, datagrams, start, wait_for};
use crate::harness::control::{Controlled, open};
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::tools::have;
use crate::harness::{Client, Guest, PATIENCE, Serve, ctime, text};

const LOOPBACK: &str = "udp://127.0.0.1:0";

/// Seconds since 1900, as RFC 868 counts them.
fn since_1900() -> u32 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    u32::try_from(since_1970 + 2_208_988_800).unwrap()
}

/// Whether an answer of RFC 868 is of now.
#[track_caller]
fn check_time(answer: &[u8], before: u32) {
    let time = u32::from_be_bytes(answer.try_into().unwrap());
    assert!((before..=since_1900()).contains(&time), "{time} {before}");
}

/// A line of chargen, which begins with the character of this number.
fn line(number: usize) -> Vec<u8> {
    let characters = (0..72).map(|at| b' ' + u8::try_from((number + at) % 95).unwrap());
    characters.chain(*b"\r\n").collect()
}

for_each_pair! { time_datagrams: the_time_of_day_answers_anything }
/// RFC 867.
fn the_time_of_day_answers_anything(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--env", "MODE=request"]);
    let peer = Peer::of(controlled.server.address());
    for question in ["", "what time is it?\n"] {
        let now = ctime::now();
        peer.send(question);
        ctime::check(&peer.receive(), now);
    }
    let finished = controlled.server.stop();
    finished.check_no_alarm();
    assert_eq!(finished.guest_lines(), ["", "what time is it?"]);
}

for_each_pair! { small_datagrams: small_servers_answer_datagrams }
fn small_servers_answer_datagrams(guest: Guest, dispatch: &str) {
    let serve = |service: &str, check: &dyn Fn(&Peer, &Controlled)| {
        let options = [
            "--env",
            &format!("SERVICE={service}"),
            "--env",
            r"QUOTE=a\r\n",
        ];
        let controlled = start(guest, dispatch, LOOPBACK, &options);
        check(&Peer::of(controlled.server.address()), &controlled);
        controlled.server.stop().check_no_alarm();
    };
    serve("time", &|peer, _| {
        let before = since_1900();
        peer.send("");
        check_time(&peer.receive(), before);
    });
    serve("qotd", &|peer, _| peer.check("x", "a\r\n"));
    serve("chargen", &|peer, _| {
        for number in 0..3 {
            let shared = guest.shares_instance(dispatch);
            peer.check("x", line(if shared { number } else { 0 }));
        }
    });
    serve("log", &|peer, controlled| {
        peer.send("a\nb");
        controlled.server.wait_for_log("the second line", |event| {
            event.is_guest() && event.message().ends_with(" wrote: b")
        });
        assert_eq!(datagrams(&controlled.status(), "sent"), 0);
    });
    serve("discard", &|peer, controlled| {
        peer.send("x");
        let status = controlled.wait_for_status("it", |status| status["handled"] == 1);
        assert_eq!(datagrams(&status, "sent"), 0);
    });
}

for_each_pair! { small, small_commands: small_servers_serve_connections }
fn small_servers_serve_connections(guest: Guest, dispatch: &str) {
    let serve = |service: &str, check: &dyn Fn(Client)| {
        let scratch = Scratch::new();
        let path = scratch.path("s");
        let server = Serve::guest(guest, dispatch)
            .compiled_once()
            .env(&format!("SERVICE={service}"))
            .env(r"QUOTE=a\r\n")
            .listen("tcp://127.0.0.1:0")
            .listen(&format!("unix://{}", path.display()))
            .start();
        check(server.connect());
        check(Client::connect_unix(&path));
        server.stop().check_no_alarm();
    };
    serve("time", &|mut client| {
        let before = since_1900();
        check_time(&client.read_to_end(), before);
    });
    serve("qotd", &|mut client| {
        assert_eq!(text(client.read_to_end()), r"a\r\n")
    });
    serve("discard", &|mut client| {
        client.send(vec![b'x'; 1 << 20]);
        client.finish_sending();
        client.expect_eof();
    });
    serve("chargen", &|mut client| {
        client.send("ignored");
        client.finish_sending();
        for number in 0..20_000 {
            assert_eq!(client.read_exact(74), line(number), "{number}");
        }
    });
}

for_each_pair! { small: chargen_is_handed_over_in_the_middle }
fn chargen_is_handed_over_in_the_middle(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--env", "SERVICE=chargen"]);
    let build = controlled.scratch.build(guest, 1);
    let mut client = controlled.server.connect();
    for number in 0..100 {
        assert_eq!(client.read_exact(74), line(number));
    }
    controlled.swap_without_waiting(&build, 1);
    let mut number = 100;
    while open(&controlled.status()).first() != Some(&0) && number < 1_000_000 {
        for _ in 0..1000 {
            assert_eq!(client.read_exact(74), line(number), "{number}");
            number += 1;
        }
        if controlled.status()["hand-overs"]["handed-over"] == 1 {
            break;
        }
    }
    for _ in 0..10_000 {
        assert_eq!(client.read_exact(74), line(number), "{number}");
        number += 1;
    }
    assert_eq!(controlled.status()["hand-overs"]["handed-over"], 1);
}

for_each_pair! { small_datagrams: answers_that_could_go_on_without_end_are_not_given }
/// CVE-1999-0103. Needs the ports of these services, and so root.
fn answers_that_could_go_on_without_end_are_not_given(guest: Guest, dispatch: &str) {
    let options = ["--env", "SERVICE=chargen"];
    let controlled = start(guest, dispatch, LOOPBACK, &options);
    let address = controlled.server.address();
    // Each pair has an address of its own, so that the tests do not meet.
    let host = format!("127.0.7.{}", 1 + guest.name.len() + dispatch.len());
    let mut loops = 0;
    for port in [7, 13, 17, 19, 37] {
        let Ok(socket) = UdpSocket::bind((host.as_str(), port)) else {
            println!("skipped: port {port} needs root");
            continue;
        };
        socket.send_to(b"x", address).unwrap();
        loops += 1;
    }
    let peer = Peer::of(address);
    peer.check("x", line(0));
    let status = wait_for(&controlled, "loops", loops);
    assert_eq!(datagrams(&status, "loops"), loops);
    controlled.server.stop().check_no_alarm();

    let controlled = start(
        guest,
        dispatch,
        LOOPBACK,
        &[&options[..], &["--allow-loops"]].concat(),
    );
    if let Ok(socket) = UdpSocket::bind((host.as_str(), 19)) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"x", controlled.server.address()).unwrap();
        let mut answer = [0; 100];
        assert_eq!(socket.recv(&mut answer).unwrap(), 74);
    }
    controlled.server.stop().check_no_alarm();
}

/// xinetd's own small servers say the same bytes.
#[test]
fn small_servers_are_what_xinetd_has() {
    use crate::harness::guests::{echo_datagram, small_datagram, small_evented, time_datagram};
    if !rustix::process::geteuid().is_root() || !have("xinetd", &["-version"]) {
        println!("skipped: xinetd needs root");
        return;
    }
    let free_port = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    };
    let scratch = Scratch::new();
    let mut ports = Vec::new();
    let mut configuration = String::new();
    for service in ["discard", "chargen", "time", "daytime", "echo"] {
        for (kind, protocol, wait) in [("stream", "tcp", "no"), ("dgram", "udp", "yes")] {
            let port = free_port();
            ports.push(port);
            configuration += &format!(
                "service {service}\n{{\n type = INTERNAL UNLISTED\n id = {service}-{kind}\n \
                 socket_type = {kind}\n protocol = {protocol}\n bind = 127.0.0.1\n \
                 port = {port}\n wait = {wait}\n user = root\n}}\n"
            );
        }
    }
    let path = scratch.path("conf");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(configuration.as_bytes()).unwrap();
    let mut command = Command::new("xinetd");
    command
        .args(["-dontfork", "-filelog", "/dev/stderr", "-f"])
        .arg(&path);
    command.arg("-pidfile").arg(scratch.path("pid"));
    let xinetd = Process::start(&mut command);
    xinetd.stderr.wait_until("xinetd's start", |lines| {
        let started = |line: &String| line.contains("Started working: 10 available services");
        lines.iter().any(started).then_some(())
    });
    let ours = |guest: Guest, url: &str, env: &str| {
        Serve::guest(guest, "poll")
            .compiled_once()
            .env(env)
            .listen(url)
            .start()
    };
    let [
        _,
        _,
        chargen,
        chargen_udp,
        time,
        time_udp,
        _,
        daytime_udp,
        _,
        echo_udp,
    ] = ports[..]
    else {
        panic!("{ports:?}");
    };
    let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    // chargen: RFC 864 says what a line is, and leaves the pattern open. xinetd's has 93
    // characters.
    let is_line = |line: &[u8]| {
        let (text, ending) = line.split_at(72);
        text.iter().all(|byte| (b' '..=b'~').contains(byte)) && ending == b"\r\n"
    };
    let server = ours(small_evented, "tcp://127.0.0.1:0", "SERVICE=chargen");
    let (mut theirs, mut our) = (Client::connect(at(chargen)), server.connect());
    for number in 0..2000 {
        assert_eq!(text(our.read_exact(74)), text(line(number)));
        assert!(is_line(&theirs.read_exact(74)));
    }
    drop((theirs, our, server));
    let server = ours(small_datagram, LOOPBACK, "SERVICE=chargen");
    Peer::of(server.address()).check("x", line(0));
    // RFC 864 says 0 to 512 characters; xinetd sends about a thousand.
    let peer = Peer::of(at(chargen_udp));
    peer.send("x");
    assert!(is_line(&peer.receive()[..74]));
    // time, over both.
    let server = ours(small_evented, "tcp://127.0.0.1:0", "SERVICE=time");
    let answers = [at(time), server.address()].map(|it| {
        let answer = Client::connect(it).read_to_end();
        u32::from_be_bytes(answer.try_into().unwrap())
    });
    assert!(answers[1].abs_diff(answers[0]) <= 2, "{answers:?}");
    let server = ours(small_datagram, LOOPBACK, "SERVICE=time");
    let answers = [at(time_udp), server.address()].map(|it| {
        let peer = Peer::of(it);
        peer.send("");
        u32::from_be_bytes(peer.receive().try_into().unwrap())
    });
    assert!(answers[1].abs_diff(answers[0]) <= 2, "{answers:?}");
    // echo and daytime over datagrams. RFC 867 does not fix the text of the time.
    let server = ours(echo_datagram, LOOPBACK, "MODE=echo");
    for port in [echo_udp, server.port()] {
        Peer::of(at(port)).check("hello", "hello");
    }
    let server = ours(time_datagram, LOOPBACK, "MODE=daytime");
    for port in [daytime_udp, server.port()] {
        let peer = Peer::of(at(port));
        peer.send("x");
        assert!(peer.receive().ends_with(b"\r\n"));
    }
}
