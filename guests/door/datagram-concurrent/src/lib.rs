//! A door under the contract `datagram-concurrent`, which has ticks only.

use sockserve_handler::datagram_concurrent::Datagram;

async fn handle(datagram: Datagram) -> Option<Datagram> {
    let text = String::from_utf8_lossy(datagram.data());
    let answer = door_shared::answer(&text).ok()?;
    Some(datagram.reply(answer))
}

sockserve_handler::datagram_concurrent!(handle);
sockserve_handler::tick!(door_shared::interval(), door_shared::tick);
