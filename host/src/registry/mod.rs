//! All services of a process, by name.
//!
//! The control socket and signals ask here which services there are. A service enters when
//! it serves, and leaves when it has ended. The registry does not keep a service running.

use crate::admission::blocks::{Block, BlockError};
use crate::service::ServiceHandle;
use crate::service::connections::{ConnectionStatus, KillRequest};
use crate::sync::lock;
use ipnet::IpNet;
use std::sync::Mutex;

/// The services of a process, in the order in which they were started.
#[derive(Debug, Default)]
pub struct Registry {
    services: Mutex<Vec<ServiceHandle>>,
}

/// Why no connection was ended, on one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// The request names nothing.
    #[error("name connections, a peer or a service")]
    Nothing,
    /// There is no such service.
    #[error("there is no service {0}; there is {1}")]
    NoService(String, String),
    /// A connection that is named is not open.
    #[error("connection {0} is not open, and nothing was done; `sockserve connections` lists them")]
    NotOpen(u64),
    /// The peer is no block of addresses.
    #[error("peer {0}: {1}")]
    Peer(String, #[source] BlockError),
}

impl Registry {
    /// Makes a registry of these services.
    pub fn new(services: impl IntoIterator<Item = ServiceHandle>) -> Self {
        Self {
            services: Mutex::new(services.into_iter().collect()),
        }
    }

    /// Adds a service. One with the same name may still be there, until it has ended.
    pub fn add(&self, service: ServiceHandle) {
        lock(&self.services).push(service);
    }

    /// Removes a service that has ended.
    pub(crate) fn remove_if_over(&self, name: &str) {
        lock(&self.services).retain(|service| service.name() != name || !service.is_over());
    }

    /// Returns all services.
    pub fn all(&self) -> Vec<ServiceHandle> {
        lock(&self.services).clone()
    }

    /// Returns the service with this name: the last one, if an earlier one still drains.
    pub fn find(&self, name: &str) -> Option<ServiceHandle> {
        let services = lock(&self.services);
        services.iter().rev().find(|it| it.name() == name).cloned()
    }

    /// Returns the services with this name: the one that serves, and those that drain.
    fn named(&self, name: &str) -> Vec<ServiceHandle> {
        let mut all = self.all();
        all.retain(|service| service.name() == name);
        all
    }

    /// Their names, as a message shows them.
    pub(crate) fn names(&self) -> String {
        let all = self.all();
        let names: Vec<_> = all.iter().map(ServiceHandle::name).collect();
        names.join(", ")
    }

    /// The open connections of all services, by service and oldest first.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        let all = self.all();
        all.iter().flat_map(ServiceHandle::connections).collect()
    }

    /// The open connections of the services with this name. `None` if there is none.
    pub fn connections_of(&self, name: &str) -> Option<Vec<ConnectionStatus>> {
        let named = self.named(name);
        let all = named.iter().flat_map(ServiceHandle::connections);
        (!named.is_empty()).then(|| all.collect())
    }

    /// Ends the connections that fit the request. Returns their numbers.
    pub fn kill(&self, request: &KillRequest) -> Result<Vec<u64>, KillError> {
        let KillRequest {
            connections,
            peer,
            service,
        } = request;
        if connections.is_empty() && peer.is_none() && service.is_none() {
            return Err(KillError::Nothing);
        }
        let services = match service {
            None => self.all(),
            Some(name) => {
                let found = self.named(name);
                if found.is_empty() {
                    return Err(KillError::NoService(name.clone(), self.names()));
                }
                found
            }
        };
        let is_open = |id: &u64| services.iter().any(|it| it.has_connection(*id));
        if let Some(closed) = connections.iter().find(|id| !is_open(id)) {
            return Err(KillError::NotOpen(*closed));
        }
        let peers = peer.as_deref().map(parse_peer).transpose()?;
        let killed = services.iter().flat_map(|it| it.kill(connections, peers));
        Ok(killed.collect())
    }
}

/// Parses an address, or a block of addresses, as `--allow` has them.
fn parse_peer(text: &str) -> Result<IpNet, KillError> {
    let block = text.parse::<Block>();
    let wrong = |error| KillError::Peer(text.to_owned(), error);
    block.map(IpNet::from).map_err(wrong)
}
