//! From an address to accepted connections.
//!
//! | file | |
//! | --- | --- |
//! | `address` | an address to listen on, as it is written |
//! | `accept` | the loop that accepts |

pub(crate) mod accept;
pub(crate) mod address;
