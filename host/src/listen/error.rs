//! Why a service cannot listen.

use crate::listen::address::{AddressError, ListenAddress};
use crate::socket_file::SocketFileError;
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;

/// Why a service cannot listen on an address. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be resolved, or is given twice.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}{}: {error}; {}", which(.address, .at), advice(.error))]
    Bind {
        /// The address as given.
        address: ListenAddress,
        /// The one of its addresses that failed.
        at: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A socket file cannot be made.
    #[error(transparent)]
    File(#[from] SocketFileError),
    /// A name in the abstract namespace cannot be bound.
    #[error("cannot listen on {address}: {error}; choose another name")]
    Abstract {
        /// The address as given.
        address: ListenAddress,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A descriptor that the process was started with cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Inherited {
        /// The address as given.
        address: ListenAddress,
        /// What is wrong with the descriptor, and what would work.
        reason: String,
    },
}

/// The address that was tried, for an error about a name. Empty if the listen address
/// shows it.
fn which(address: &ListenAddress, at: &SocketAddr) -> String {
    if address.is_name() {
        format!(" at {}", at.ip())
    } else {
        String::new()
    }
}

/// What the user can do about an error of bind.
fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => return "raise the limit on open files (ulimit -n)",
        Some(Errno::NFILE) => return "the machine has no more open files (fs.file-max)",
        Some(Errno::NOBUFS | Errno::NOMEM) => return "the machine is out of memory",
        Some(Errno::AFNOSUPPORT) => return "this machine has no IPv6; choose an IPv4 address",
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => "choose another port, or port 0 for any free one",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one",
        io::ErrorKind::AddrNotAvailable => {
            "the address is not this machine's; 0.0.0.0 or [::] is any"
        }
        // ENODEV has no kind of its own.
        _ if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
            "the zone is no interface of this machine"
        }
        _ => "choose another address",
    }
}
