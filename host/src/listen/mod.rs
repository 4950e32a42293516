//! From an address to accepted connections, or to a socket that takes datagrams.
//!
//! A socket lives until the service drains, or until its start fails. A socket file is
//! removed with it.
//!
//! | file | |
//! | --- | --- |
//! | `address` | an address to listen on, as it is written |
//! | `local` | an address that is listened on |
//! | `opening` | from the one to the other |
//! | `bind` | sockets on the network |
//! | `given` | the socket that a program like inetd gives |
//! | `inherited` | sockets that the process was started with |
//! | `error` | why a service cannot listen |
//! | `accept` | the loop that accepts |

pub(crate) mod accept;
pub(crate) mod address;
pub(crate) mod bind;
pub(crate) mod error;
pub(crate) mod given;
mod inherited;
pub(crate) mod local;
pub(crate) mod opening;
