//! Addresses that go from one service to another in a reload: a service has another name, or
//! two services change places. The socket goes as it is, with the peers that wait there.

use super::changes::Present;
use crate::ListenAddress;
use crate::cli::config::{Configuration, Described, Mistake};
use crate::listen::opening::Opened;
use std::collections::BTreeMap;

/// An address that a service gives to another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move {
    /// The name of the service that has it.
    pub(super) from: String,
    pub(super) address: ListenAddress,
}

/// What a service takes over from others.
#[derive(Default)]
pub(super) struct TakenOver {
    pub(super) moves: Vec<Move>,
    pub(super) sockets: Vec<Opened>,
}

/// Finds the addresses that a service of the new configuration is to have, and that another
/// one has which is to have it no longer. A mistake if it cannot be given.
pub(super) fn taken_over(
    service: &Described,
    configuration: &Configuration,
    present: &BTreeMap<String, Present>,
) -> Result<TakenOver, Mistake> {
    let mut taken = TakenOver::default();
    let had = present.get(&service.name).map(|it| &it.keys.listen);
    let wanted = service.keys.listen.iter();
    let new = wanted.filter(|it| it.is_one_socket() && !had.is_some_and(|had| had.contains(it)));
    for address in new {
        let keeps = |name: &String| {
            let after = configuration.services.iter().find(|it| it.name == *name);
            after.is_some_and(|after| after.keys.listen.contains(address))
        };
        let from = present
            .iter()
            .find(|(name, it)| it.keys.listen.contains(address) && !keeps(name));
        let Some((name, from)) = from.filter(|(_, it)| it.handle.is_serving()) else {
            continue;
        };
        let refused = |why: &str| {
            let text = format!(
                "the service {}: {address} is that of the service {name}, {why}; reload without \
                 the address first, or restart the process",
                service.name
            );
            Mistake::new(service.place("listen"), text)
        };
        let options = |it: &super::ServiceKeys| it.service.listening.options();
        if options(&service.keys) != options(&from.keys) {
            return Err(refused("which listens with other options"));
        }
        let sockets = from.handle.sockets_of(address);
        if sockets.is_empty() {
            return Err(refused(
                "whose datagrams cannot go to another service meanwhile",
            ));
        }
        taken.sockets.extend(sockets);
        taken.moves.push(Move {
            from: name.clone(),
            address: address.clone(),
        });
    }
    Ok(taken)
}
