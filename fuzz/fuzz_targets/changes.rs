//! Whatever changes an evented handler returns, its service serves the next
//! connection. The guest makes them up from what it is sent: see `MODE=random` in
//! `guests/README.md`.
//!
//! `SOCKSERVE_FAULTS_EVENTED` is the path of that guest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockserve::{Component, Dispatch, Handler, HandlerOptions, Service, ServiceOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::Duration;

static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let path = std::env::var_os("SOCKSERVE_FAULTS_EVENTED")
        .expect("SOCKSERVE_FAULTS_EVENTED is the path of faults_evented.wasm");
    let component = Component::from_file(path.as_ref()).expect("it is a component");
    let mut options = HandlerOptions::new(Dispatch::Poll);
    let random = ("MODE".to_owned(), "random".to_owned());
    options.grants.env.push(random);
    let handler = Handler::new("faults", &component, options).expect("it is a handler");
    let address = "tcp://127.0.0.1:0".parse().expect("it is an address");
    let options = ServiceOptions::new("faults", [address]);
    Service::start(options, handler).expect("it starts")
});

fuzz_target!(|seed: &[u8]| {
    let connect = || {
        let stream = TcpStream::connect(SERVICE.local_addresses()[0].ip().expect("TCP")).expect("it accepts");
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).expect("it is a time");
        stream
    };
    let mut others = [connect(), connect()];
    others.iter_mut().for_each(check_echo);
    // One chunk, and the guest reads no more at once.
    let seed = seed.get(..60_000).unwrap_or(seed);
    let mut client = connect();
    let chunk = [b"random ", seed].concat();
    client.write_all(&chunk).expect("it is taken");
    let _ = client.read_to_end(&mut Vec::new());
    check_echo(&mut connect());
});

fn check_echo(stream: &mut TcpStream) {
    let mut answer = [0; 6];
    stream.write_all(b"hello\n").expect("it is taken");
    stream.read_exact(&mut answer).expect("it is answered");
    assert_eq!(&answer, b"hello\n");
}
