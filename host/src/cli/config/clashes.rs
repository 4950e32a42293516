//! What services of one file must not share: addresses, and files that they write.

use super::Described;
use super::mistake::{Mistake, Source};
use crate::ListenAddress;
use crate::cli::serve::ProcessOptions;
use crate::listen::address::Clash;

/// A listen address of a service.
struct Listener<'a> {
    service: &'a Described,
    address: &'a ListenAddress,
    /// Where it is written.
    at: usize,
}

/// Finds addresses and files that are used twice, by services or by the process itself.
pub(super) fn find(
    source: &Source,
    services: &[Described],
    process: Option<&ProcessOptions>,
) -> Vec<Mistake> {
    let control = process.and_then(|it| it.control.as_deref());
    let metrics = process.and_then(|it| it.metrics);
    let metrics: Option<ListenAddress> = metrics.and_then(|it| format!("tcp://{it}").parse().ok());
    let mut mistakes = Vec::new();
    let mut listeners: Vec<Listener<'_>> = Vec::new();
    for service in services {
        let places = service.places("listen");
        for (address, at) in service.keys.listen.iter().zip(places) {
            let listener = Listener {
                service,
                address,
                at,
            };
            if control.is_some() && address.file() == control {
                let text = format!("{address} is the control socket; choose another path");
                mistakes.push(Mistake::new(at, text));
            }
            if let Some(metrics) = &metrics
                && address.clash(metrics).is_some()
            {
                let text = format!(
                    "{address} and the address of `metrics`, {metrics}, take each other's port; \
                     choose another port"
                );
                mistakes.push(Mistake::new(at, text));
            }
            let mut before = listeners.iter();
            if let Some(text) = before.find_map(|other| said(source, &listener, other)) {
                mistakes.push(Mistake::new(at, text));
            }
            listeners.push(listener);
        }
    }
    for (number, service) in services.iter().enumerate() {
        let Some(file) = &service.keys.service.state_file else {
            continue;
        };
        let mut before = services.iter().take(number);
        let same = before.find(|other| other.keys.service.state_file.as_ref() == Some(file));
        if let Some(other) = same {
            let at = service.place("state-file");
            let text = format!(
                "state-file: the service {} keeps its state there; give each service a file of \
                 its own",
                other.name
            );
            mistakes.push(Mistake::new(at, text));
        }
    }
    mistakes
}

/// Says how an address is in the way of one before it, if it is.
fn said(source: &Source, listener: &Listener<'_>, before: &Listener<'_>) -> Option<String> {
    let address = listener.address;
    let is_own = std::ptr::eq(listener.service, before.service);
    let shares = |listener: &Listener<'_>| listener.service.keys.service.shares_ports();
    let line = source.line(before.at);
    let whose = if is_own {
        format!("in line {line}")
    } else {
        format!("by the service {} in line {line}", before.service.name)
    };
    match address.clash(before.address)? {
        Clash::Same => Some(format!(
            "{address} is listened on {whose} already; each address can be listened on once"
        )),
        Clash::Within if shares(listener) && shares(before) => None,
        Clash::Within => Some(format!(
            "{address} and {}, which is listened on {whose}, take each other's port; choose \
             another port, or leave one of them out",
            before.address
        )),
    }
}
