//! Services inside the test's process, for faults that no peer and no guest of the
//! other tests can cause.

use crate::component::builtin;
use crate::dispatch::fault;
use crate::{
    AdmissionOptions, BlockSource, Dispatch, Handler, HandlerOptions, Limits, Service,
    ServiceOptions, Status,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

const PAIRS: [(&str, Dispatch); 5] = [
    ("echo-evented", Dispatch::Poll),
    ("echo-concurrent", Dispatch::Poll),
    ("echo-concurrent", Dispatch::Threaded),
    ("echo-blocking", Dispatch::Poll),
    ("echo-blocking", Dispatch::Sequential),
];

fn start(test: &str, guest: &str, dispatch: Dispatch, limits: Limits) -> Service {
    let source = format!("builtin:{guest}");
    let component = builtin::load(&source).unwrap();
    let mut options = HandlerOptions::new(dispatch);
    options.limits = limits;
    let handler = Handler::new(&source, &component, options).unwrap();
    // A name of its own, because a fault is armed by name.
    let name = format!("{test}-{guest}-{dispatch}");
    let options = ServiceOptions::new(&name, ["tcp://127.0.0.1:0".parse().unwrap()]);
    Service::start(options, handler).unwrap()
}

fn connect(service: &Service) -> TcpStream {
    let stream = TcpStream::connect(service.local_addresses()[0].ip().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn echoes(service: &Service) -> bool {
    let mut stream = connect(service);
    let mut answer = [0; 6];
    // A service that closes the connection may reset it.
    let _ = stream.write_all(b"hello\n");
    stream.read_exact(&mut answer).is_ok() && &answer == b"hello\n"
}

/// Waits until `wanted` is true of the status, and returns that status.
fn status_when(service: &Service, wanted: impl Fn(&Status) -> bool) -> Status {
    let begun = std::time::Instant::now();
    loop {
        let status = service.handle().status();
        if wanted(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:?}");
        std::thread::yield_now();
    }
}

/// A panic of a driver costs the connections of its instance. They are counted, and the
/// next connection is served.
#[test]
fn a_driver_that_panics_is_replaced() {
    for (guest, dispatch) in PAIRS {
        println!("{guest} under {dispatch}");
        let service = start("replaced", guest, dispatch, Limits::default());
        assert!(echoes(&service));
        status_when(&service, |status| status.open == 0);
        fault::arm(service.name());
        for _ in 0..2 {
            assert!(!echoes(&service));
        }
        fault::disarm(service.name());
        assert!(echoes(&service));
        let status = status_when(&service, |status| status.open == 0);
        assert_eq!((status.handled, status.failed.panic), (2, 2), "{status:?}");
        assert_eq!(status.failed.total(), 2);
        assert_eq!(status.accepted, 4);
    }
}

/// If the driver dies at every connection, the service ends with an error that says so.
#[test]
fn a_driver_that_panics_again_and_again_ends_the_service() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for guest in ["echo-evented", "echo-concurrent"] {
        let mut service = start("ended", guest, Dispatch::Poll, Limits::default());
        fault::arm(service.name());
        let connections: Vec<_> = (0..5).map(|_| echoes(&service)).collect();
        assert_eq!(connections, [false; 5]);
        let ended =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, service.ended()).await });
        let error = ended.unwrap().unwrap_err().to_string();
        assert!(error.contains("5 panics of the host"), "{error}");
        assert!(
            error.contains("a fault that a test has asked for"),
            "{error}"
        );
    }
}

/// A limit may be as long as a `Duration` can be: instants that do not exist are not
/// computed.
#[test]
fn limits_for_ever_harm_nothing() {
    let limits = Limits {
        deadline: Duration::MAX,
        close_timeout: Duration::MAX,
        drain_timeout: Duration::MAX,
        ..Limits::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (guest, dispatch) in PAIRS {
        println!("{guest} under {dispatch}");
        let mut service = start("for-ever", guest, dispatch, limits.clone());
        let mut stream = connect(&service);
        let mut answer = [0; 3];
        stream.write_all(b"one").unwrap();
        stream.read_exact(&mut answer).unwrap();
        let new = format!("builtin:{}", guest.replace("echo", "upper"));
        let swapping = service.handle();
        let swapped = runtime
            .block_on(swapping.swap(&new, Default::default()))
            .unwrap();
        assert_eq!((swapped.staying, swapped.lost), (0, 0));
        stream.write_all(b"two\n").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"TWO\n");
        service.drain();
        drop(stream);
        let ended =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, service.ended()).await });
        ended.unwrap().unwrap();
    }
}

/// No version becomes current after the service was told to end, so an end never waits
/// for a connection that a swap has moved to a new version.
#[test]
fn an_abort_ends_the_service_whatever_is_swapped() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let limits = Limits::default();
    let mut service = start("abort", "echo-blocking", Dispatch::Threaded, limits);
    let mut peer = connect(&service);
    peer.write_all(b"hello\n").unwrap();
    peer.read_exact(&mut [0; 6]).unwrap();
    let remote = service.handle();
    let (swapped, is_swapped) = std::sync::mpsc::channel();
    let swapping = std::thread::spawn(move || {
        let builds = ["builtin:upper-blocking", "builtin:echo-blocking"];
        for build in builds.iter().cycle() {
            if let Err(error) = runtime().block_on(remote.swap(build, Default::default())) {
                return error.to_string();
            }
            // The test may have stopped waiting.
            let _ = swapped.send(());
        }
        unreachable!("the builds never end");
    });
    for _ in 0..3 {
        is_swapped.recv_timeout(PATIENCE).unwrap();
    }
    service.abort();
    let ended = runtime().block_on(async { tokio::time::timeout(PATIENCE, service.ended()).await });
    ended.unwrap().unwrap();
    let error = swapping.join().unwrap();
    assert!(
        error.contains("draining and takes no new version"),
        "{error}"
    );
    assert_eq!(peer.read(&mut [0; 6]).unwrap_or_default(), 0);
}

/// Who may come in can be changed while the service runs, and what was refused stays
/// counted.
#[test]
fn another_policy_is_in_effect_at_the_next_accept() {
    let limits = Limits::default();
    let service = start("policy", "echo-evented", Dispatch::Poll, limits);
    let policy = |deny: &str| {
        let options = AdmissionOptions {
            deny: vec![BlockSource::parse(deny.as_ref()).unwrap()],
            ..AdmissionOptions::default()
        };
        options.policy().unwrap()
    };
    let handle = service.handle();
    assert!(echoes(&service));
    handle.set_admission(policy("127.0.0.0/8")).unwrap();
    assert!(!echoes(&service));
    handle.set_admission(policy("10.0.0.0/8")).unwrap();
    assert!(echoes(&service));
    let refused = AdmissionOptions {
        max_connections_per_source: NonZeroU32::new(5000),
        ..AdmissionOptions::default()
    };
    let error = handle.set_admission(refused.policy().unwrap()).unwrap_err();
    assert!(error.to_string().contains("is never reached"), "{error}");
    let status = status_when(&service, |status| status.open == 0);
    assert_eq!((status.accepted, status.handled), (3, 2));
    assert_eq!(status.refused.rules, 1);
}
