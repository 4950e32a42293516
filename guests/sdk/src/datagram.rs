//! The contract `datagram`: a function per datagram, which must not wait under `poll`.
//!
//! ```no_run
//! use sockserve_handler::datagram::Datagram;
//!
//! fn handle(datagram: Datagram) -> Option<Datagram> {
//!     let text = String::from_utf8_lossy(datagram.data()).to_uppercase();
//!     Some(datagram.reply(text))
//! }
//!
//! sockserve_handler::datagram!(handle);
//! # fn main() {}
//! ```
//!
//! The function returns the datagrams to be sent: none, one, or more.

use crate::session::Peer;
use std::fmt;

#[doc(hidden)]
pub use crate::p2::datagram as lower;

/// A datagram that came, or that is to be sent.
pub struct Datagram(lower::Datagram);

crate::datagram_methods!(lower, "datagram");

/// Makes a component of the contract `datagram` from a function
/// `fn(Datagram) -> impl IntoIterator<Item = Datagram>`. See [the module](crate::datagram).
///
/// | option | default | |
/// | --- | --- | --- |
/// | `max_bytes = N` | 65535 | a longer datagram is dropped by the host |
/// | `instance_state = NAME` | none | passes on what the instance knows: a thread-local [`RefCell`](std::cell::RefCell) of a type that is [`InstanceState`](crate::InstanceState) |
#[macro_export]
macro_rules! datagram {
    ($handle:expr $(, instance_state = $instance:path)? $(,)?) => {
        $crate::datagram!($handle, max_bytes = 65535 $(, instance_state = $instance)?);
    };
    ($handle:expr, max_bytes = $max:expr $(, instance_state = $instance:path)? $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::datagram::lower::Handler for Component {
                fn max_data_bytes() -> u32 {
                    $max
                }
                fn receive(
                    batch: ::std::vec::Vec<$crate::datagram::lower::Datagram>,
                ) -> ::core::result::Result<
                    ::std::vec::Vec<$crate::datagram::lower::Datagram>,
                    ::std::string::String,
                > {
                    ::core::result::Result::Ok($crate::datagram::serve(batch, $handle))
                }
            }
            $crate::datagram::lower::export!(Component with_types_in $crate::datagram::lower);
            $($crate::instance_state!(Component, $instance);)?
        };
    };
}

/// Gives each datagram of a batch to a function.
#[doc(hidden)]
pub fn serve<I: IntoIterator<Item = Datagram>>(
    batch: Vec<lower::Datagram>,
    handle: impl Fn(Datagram) -> I,
) -> Vec<lower::Datagram> {
    batch
        .into_iter()
        .flat_map(|datagram| handle(Datagram(datagram)))
        .map(|Datagram(datagram)| datagram)
        .collect()
}
