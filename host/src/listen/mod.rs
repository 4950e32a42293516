//! From an address to accepted connections.
//!
//! | file | |
//! | --- | --- |
//! | `address` | an address to listen on, as it is written |
//! | `bind` | sockets that listen |
//! | `accept` | the loop that accepts |

pub(crate) mod accept;
pub(crate) mod address;
pub(crate) mod bind;
