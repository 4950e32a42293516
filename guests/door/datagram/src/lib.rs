//! A door under the contract `datagram`, which has ticks only.

use sockserve_handler::datagram::Datagram;

fn handle(datagram: Datagram) -> Option<Datagram> {
    let text = String::from_utf8_lossy(datagram.data());
    let answer = door_shared::answer(&text).ok()?;
    Some(datagram.reply(answer))
}

sockserve_handler::datagram!(handle);
sockserve_handler::tick!(door_shared::interval(), door_shared::tick);
