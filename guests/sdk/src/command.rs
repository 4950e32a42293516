//! The contract `command`: a program whose standard input and output are the connection.
//!
//! Only the standard library is used here, so such a program also runs where nothing of
//! `sockserve` is: in a shell, or under inetd.

use crate::session::{Conversation, Peer, Protocol, Session};
use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;

/// Serves the connection by a protocol, until it ends. An error is one line on standard
/// error, and exit status 1.
pub fn main<P: Protocol>(protocol: impl FnOnce() -> Result<P, String>) -> ExitCode {
    match protocol().and_then(|protocol| serve(&protocol)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(protocol: &impl Protocol) -> Result<(), String> {
    let mut talk = Conversation::open(protocol.session(peer)?);
    let mut input = io::stdin().lock();
    let mut room = vec![0; talk.session.read_limit()];
    loop {
        match deliver(&mut talk) {
            Ok(()) => {}
            // The peer has gone. Nothing is left to do.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(format!("write: {error}")),
        }
        if talk.is_finished() {
            return Ok(());
        }
        let limit = talk.session.read_limit();
        room.resize(limit, 0);
        match input.read(&mut room) {
            Ok(0) => talk.end(),
            Ok(count) => talk.receive(room.get(..count).unwrap_or_default()),
            Err(error) => return Err(format!("read: {error}")),
        }
    }
}

/// Prints and writes all output of a session, in as many pieces as it has.
fn deliver(talk: &mut Conversation<impl Session>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    loop {
        for line in talk.output.log.drain(..) {
            // An error ends no connection.
            let _ = writeln!(io::stderr(), "{line}");
        }
        while !talk.output.bytes.is_empty() {
            let piece = talk.output.bytes.front(usize::MAX);
            output.write_all(piece)?;
            let written = piece.len();
            talk.output.bytes.consume(written);
        }
        output.flush()?;
        if !talk.add_more() {
            return Ok(());
        }
    }
}

/// Who has connected, by the variables of ucspi.
fn peer() -> Result<Peer, String> {
    let variable = |name: &str| env::var(name).ok();
    match variable("PROTO").as_deref() {
        Some("TCP") => {
            let ip = variable("TCPREMOTEIP").and_then(|ip| ip.parse::<IpAddr>().ok());
            let port = variable("TCPREMOTEPORT").and_then(|port| port.parse::<u16>().ok());
            let address = ip
                .zip(port)
                .ok_or("TCPREMOTEIP and TCPREMOTEPORT are not set")?;
            Ok(Peer::from(address))
        }
        Some("UNIX") => Ok(Peer::Unix {
            uid: variable("UNIXREMOTEEUID").and_then(|uid| uid.parse().ok()),
            // The nearest to a number of the connection.
            connection: variable("UNIXREMOTEPID")
                .and_then(|pid| pid.parse().ok())
                .unwrap_or_default(),
        }),
        _ => Ok(Peer::Named("standard input".to_owned())),
    }
}
