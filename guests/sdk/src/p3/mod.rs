//! The lower layer on WASI 0.3: the bindings of each contract, and the code that carries a
//! [`Conversation`](crate::session::Conversation) over it.

#[cfg(feature = "concurrent")]
pub mod concurrent;
#[cfg(feature = "datagram-concurrent")]
pub mod datagram;
#[cfg(feature = "concurrent")]
mod draining;
#[cfg(feature = "concurrent")]
mod serve;

crate::addresses!(pub, wasip3::sockets::types);
crate::error_name!(pub, wasip3::sockets::types);

/// A refused call of a socket as an error of the standard library.
pub fn error_of(what: &str, code: &wasip3::sockets::types::ErrorCode) -> std::io::Error {
    use std::io::ErrorKind;
    use wasip3::sockets::types::ErrorCode;
    let kind = match code {
        ErrorCode::AccessDenied => ErrorKind::PermissionDenied,
        ErrorCode::NotSupported => ErrorKind::Unsupported,
        ErrorCode::InvalidArgument => ErrorKind::InvalidInput,
        ErrorCode::InvalidState => ErrorKind::NotConnected,
        _ => ErrorKind::Other,
    };
    std::io::Error::new(kind, format!("{what}: {}", error_name(code)))
}

/// The options of an accepted socket, as methods of what has one in its field.
#[cfg(feature = "concurrent")]
macro_rules! socket_options {
    ($field:ident) => {
        $crate::p3::socket_options! { @ $field
            /// Whether keep-alive is on (SO_KEEPALIVE). The host has it on.
            keep_alive / set_keep_alive: bool
                = get_keep_alive_enabled / set_keep_alive_enabled;
            /// After how many nanoseconds without traffic the first probe is sent
            /// (TCP_KEEPIDLE).
            keep_alive_idle_time / set_keep_alive_idle_time: u64
                = get_keep_alive_idle_time / set_keep_alive_idle_time;
            /// How many nanoseconds are between two probes (TCP_KEEPINTVL).
            keep_alive_interval / set_keep_alive_interval: u64
                = get_keep_alive_interval / set_keep_alive_interval;
            /// After how many probes without an answer the connection is lost
            /// (TCP_KEEPCNT).
            keep_alive_count / set_keep_alive_count: u32
                = get_keep_alive_count / set_keep_alive_count;
            /// How many routers a packet may pass (IP_TTL, IPV6_UNICAST_HOPS).
            hop_limit / set_hop_limit: u8 = get_hop_limit / set_hop_limit;
            /// The size of the kernel's receive buffer in bytes (SO_RCVBUF).
            receive_buffer_size / set_receive_buffer_size: u64
                = get_receive_buffer_size / set_receive_buffer_size;
            /// The size of the kernel's send buffer in bytes (SO_SNDBUF).
            send_buffer_size / set_send_buffer_size: u64
                = get_send_buffer_size / set_send_buffer_size;
        }
    };
    (@ $field:ident $($(#[$doc:meta])* $get:ident / $set:ident: $type:ty = $read:ident / $write:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $get(&self) -> std::io::Result<$type> {
                let value = self.$field.$read();
                value.map_err(|code| $crate::p3::error_of(stringify!($get), &code))
            }

            $(#[$doc])*
            pub fn $set(&self, value: $type) -> std::io::Result<()> {
                let set = self.$field.$write(value);
                set.map_err(|code| $crate::p3::error_of(stringify!($set), &code))
            }
        )*
    };
}

#[cfg(feature = "concurrent")]
pub(crate) use socket_options;
