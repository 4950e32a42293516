//! What a datagram has under both contracts.

/// The methods of a `Datagram` over the bindings of its contract.
#[doc(hidden)]
#[macro_export]
macro_rules! datagram_methods {
    ($lower:ident, $contract:literal) => {
        impl Datagram {
            /// The bytes. There may be none.
            pub fn data(&self) -> &[u8] {
                &self.0.data
            }

            /// The other side: who sent it, or whom it is for.
            pub fn peer(&self) -> Peer {
                $lower::shown(&self.0.peer)
            }

            /// The service's own address: where it was sent to, or where it is sent from.
            pub fn local(&self) -> Peer {
                $lower::shown(&self.0.local)
            }

            /// A datagram back to its sender, from the address that was written to.
            pub fn reply(&self, data: impl Into<Vec<u8>>) -> Self {
                Self($lower::Datagram {
                    peer: self.0.peer.clone(),
                    local: self.0.local.clone(),
                    data: data.into(),
                })
            }
        }

        impl fmt::Debug for Datagram {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Datagram")
                    .field("contract", &$contract)
                    .field("peer", &self.peer().to_string())
                    .field("data", &self.data())
                    .finish()
            }
        }
    };
}
