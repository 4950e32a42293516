//! The counter under the contract `datagram-concurrent`: answers each datagram with its number.

use counter_protocol::Total;
use sockserve_handler::datagram_concurrent::Datagram;
use std::cell::RefCell;

thread_local! {
    static TOTAL: RefCell<Total> = RefCell::default();
}

async fn handle(datagram: Datagram) -> Option<Datagram> {
    let count = TOTAL.with_borrow_mut(|total| {
        total.0 += 1;
        total.0
    });
    let text = String::from_utf8_lossy(datagram.data());
    Some(datagram.reply(format!("{count} {text}")))
}

sockserve_handler::datagram_concurrent!(handle, max_bytes = 1024, instance_state = TOTAL);
