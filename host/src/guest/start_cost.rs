//! What each connection costs because it has an instance of its own. For most components
//! that is little. An interpreter brings its heap, many MiB.

use crate::component::Component;
use crate::contract::{Contract, Dispatch};
use crate::guest::handler::HandlerOptions;
use bytesize::ByteSize;

/// An instance that begins with more is worth a word.
const LARGE: u64 = 1 << 20;

/// Says in the log what all connections together may take, if that is much.
pub(super) fn log(source: &str, component: &Component, options: &HandlerOptions) {
    let contract = component.contract();
    let Some(advice) = advice(component, options.dispatch) else {
        return;
    };
    // A program that runs by itself has one instance only.
    let (all, one) = (options.limits.max_connections, served(contract));
    if all == 1 {
        return;
    }
    let bytes = component.start_memory_bytes();
    tracing::info!(
        component = source,
        "each {one} has an instance, which begins with {bytes} of memory, and {all} have {total}; \
         {advice}, or lower --max-connections",
        bytes = ByteSize(bytes),
        total = ByteSize(bytes.saturating_mul(u64::from(all))),
    );
}

/// Returns what costs less, if the instances of a component are large and each serves one
/// connection only.
pub(crate) fn advice(component: &Component, dispatch: Dispatch) -> Option<&'static str> {
    let contract = component.contract();
    let is_large = component.start_memory_bytes() >= LARGE;
    if !is_large || dispatch.shares_instance(contract) || dispatch == Dispatch::Sequential {
        return None;
    }
    Some(if Dispatch::Poll.shares_instance(contract) {
        "use --dispatch poll, where one instance serves all"
    } else {
        "use the contract evented or concurrent, where one instance serves all"
    })
}

/// What an instance of a contract serves, if it serves one of them only.
pub(crate) fn served(contract: Contract) -> &'static str {
    if contract.takes_datagrams() {
        "datagram"
    } else {
        "connection"
    }
}
