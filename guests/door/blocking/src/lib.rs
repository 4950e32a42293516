//! A door under the contract `blocking`, with the three methods of a `RequestHandler`.

use sockserve_handler::blocking::{Connection, RequestHandler, request};
use sockserve_handler::life_cycle::{Failure, Info};
use std::io::{self, Write as _};

#[derive(Default)]
struct Door {
    /// The peer's address, which is not there any more when the peer has reset.
    peer: String,
}

impl RequestHandler for Door {
    fn setup(&mut self, connection: &mut Connection) -> io::Result<()> {
        self.peer = connection.peer();
        println!("setup {}", self.peer);
        Ok(())
    }

    fn handle(&mut self, connection: &mut Connection) -> io::Result<()> {
        while let Some(line) = connection.next_line()? {
            let answer = door_shared::answer(&line).map_err(io::Error::other)?;
            writeln!(connection, "{answer}")?;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Connection) -> io::Result<()> {
        println!("finish {}", self.peer);
        Ok(())
    }
}

fn handle(connection: &mut Connection, _: &mut ()) -> io::Result<()> {
    request::<Door>(connection)
}

fn verify(peer: &Info) -> Result<(), String> {
    door_shared::verify(&peer.peer, peer.credentials.map(|it| it.uid))
}

fn error(failure: &Failure) {
    let fault = format!("{:?}", failure.fault);
    door_shared::error(&failure.connection.peer, &fault, &failure.reason);
}

sockserve_handler::blocking!(handle, hand_over = ());
sockserve_handler::verify!(verify);
sockserve_handler::error!(error);
sockserve_handler::tick!(door_shared::interval(), door_shared::tick);
