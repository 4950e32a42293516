//! A door under the contract `evented`: the life cycle is methods of the handler.

use sockserve_handler::HandOver;
use sockserve_handler::evented::{Connection, Handler};
use sockserve_handler::life_cycle::{Failure, HandleError, Info, ServiceActions, VerifyRequest};
use std::io::{self, Write as _};
use std::time::Duration;

#[derive(Default)]
struct Door;

/// The peer's address, which is not there any more when the peer has reset.
#[derive(Default)]
struct Peer(String);

impl HandOver for Peer {
    type State = ();
    const TAG: &'static str = <() as HandOver>::TAG;

    fn save(&self) {}

    fn resume((): ()) -> Self {
        Self::default()
    }
}

impl Handler for Door {
    type Data = Peer;

    fn opened(&mut self, connection: &mut Connection<'_, Peer>) -> io::Result<()> {
        let peer = connection.peer();
        println!("setup {peer}");
        connection.data().0 = peer;
        Ok(())
    }

    fn resumed(&mut self, connection: &mut Connection<'_, Peer>) -> io::Result<()> {
        self.opened(connection)
    }

    fn readable(&mut self, connection: &mut Connection<'_, Peer>) -> io::Result<()> {
        while let Some(line) = connection.next_line()? {
            let answer = door_shared::answer(&line).map_err(io::Error::other)?;
            writeln!(connection, "{answer}")?;
        }
        Ok(())
    }

    fn closed(&mut self, connection: &mut Connection<'_, Peer>) {
        println!("finish {}", connection.data().0);
    }
}

impl VerifyRequest for Door {
    fn verify_request(&mut self, peer: &Info) -> Result<(), String> {
        door_shared::verify(&peer.peer, peer.credentials.map(|it| it.uid))
    }
}

impl HandleError for Door {
    fn handle_error(&mut self, failure: &Failure) {
        let fault = format!("{:?}", failure.fault);
        door_shared::error(&failure.connection.peer, &fault, &failure.reason);
    }
}

impl ServiceActions for Door {
    fn interval(&self) -> Duration {
        door_shared::interval()
    }

    fn service_actions(&mut self) {
        door_shared::tick();
    }
}

sockserve_handler::evented!(Door, hand_over, verify, error, tick);
sockserve_handler::rolling_hand_over!(door_shared::is_rolling);
