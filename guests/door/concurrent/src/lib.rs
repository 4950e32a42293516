//! A door under the contract `concurrent`.

use sockserve_handler::concurrent::Connection;
use sockserve_handler::life_cycle::{Failure, Info};
use std::io;

/// Sets up, handles and finishes, whatever happened in between.
async fn handle(connection: &mut Connection, _: &mut ()) -> io::Result<()> {
    let peer = connection.peer();
    println!("setup {peer}");
    let handled = serve(connection).await;
    println!("finish {peer}");
    handled
}

async fn serve(connection: &mut Connection) -> io::Result<()> {
    while let Some(line) = connection.next_line().await? {
        let answer = door_shared::answer(&line).map_err(io::Error::other)?;
        writeln!(connection, "{answer}")?;
    }
    Ok(())
}

fn verify(peer: &Info) -> Result<(), String> {
    door_shared::verify(&peer.peer, peer.credentials.map(|it| it.uid))
}

fn error(failure: &Failure) {
    let fault = format!("{:?}", failure.fault);
    door_shared::error(&failure.connection.peer, &fault, &failure.reason);
}

sockserve_handler::concurrent!(handle, hand_over = ());
sockserve_handler::verify!(verify);
sockserve_handler::error!(error);
sockserve_handler::tick!(door_shared::interval(), door_shared::tick);
sockserve_handler::rolling_hand_over!(door_shared::is_rolling);
