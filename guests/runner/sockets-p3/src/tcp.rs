//! TCP sockets: those of connections, and those that the handler makes itself.

use crate::connection::Connection;
use crate::exports::wasi::sockets0_3_0::types as exported;
use crate::wasi::sockets0_3_0::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket};
use alloc::rc::Rc;
use wit_bindgen::{FutureReader, StreamReader};

/// A socket as the handler holds it.
pub(crate) enum Socket {
    /// A connection's.
    Of(Rc<Connection>),
    /// One that the handler has made itself.
    Other(TcpSocket),
}

impl Socket {
    fn get(&self) -> &TcpSocket {
        match self {
            Self::Of(connection) => &connection.socket,
            Self::Other(socket) => socket,
        }
    }

    /// The socket, unless the handler is done with its connection.
    fn open(&self) -> Result<&TcpSocket, ErrorCode> {
        match self {
            Self::Of(connection) if connection.is_over.has_happened() => {
                Err(ErrorCode::InvalidState)
            }
            _ => Ok(self.get()),
        }
    }
}

impl exported::GuestTcpSocket for Socket {
    fn create(family: IpAddressFamily) -> Result<exported::TcpSocket, ErrorCode> {
        let socket = TcpSocket::create(family)?;
        Ok(exported::TcpSocket::new(Self::Other(socket)))
    }

    fn bind(&self, address: IpSocketAddress) -> Result<(), ErrorCode> {
        self.open()?.bind(address)
    }

    async fn connect(&self, address: IpSocketAddress) -> Result<(), ErrorCode> {
        self.open()?.connect(address).await
    }

    /// Denied, as `sockserve serve` denies it to handlers.
    fn listen(&self) -> Result<StreamReader<exported::TcpSocket>, ErrorCode> {
        match self {
            Self::Of(_) => Err(ErrorCode::InvalidState),
            Self::Other(_) => Err(ErrorCode::AccessDenied),
        }
    }

    fn send(&self, data: StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>> {
        if let Self::Of(connection) = self {
            connection.has_sent.set(true);
        }
        self.get().send(data)
    }

    fn receive(&self) -> (StreamReader<u8>, FutureReader<Result<(), ErrorCode>>) {
        match self {
            Self::Of(connection) => connection.receive(),
            Self::Other(socket) => socket.receive(),
        }
    }

    fn get_local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.open()?.get_local_address()
    }

    fn get_remote_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.open()?.get_remote_address()
    }

    fn get_is_listening(&self) -> bool {
        self.get().get_is_listening()
    }

    fn get_address_family(&self) -> IpAddressFamily {
        self.get().get_address_family()
    }

    fn set_listen_backlog_size(&self, value: u64) -> Result<(), ErrorCode> {
        self.open()?.set_listen_backlog_size(value)
    }

    fn get_keep_alive_enabled(&self) -> Result<bool, ErrorCode> {
        self.open()?.get_keep_alive_enabled()
    }

    fn set_keep_alive_enabled(&self, value: bool) -> Result<(), ErrorCode> {
        self.open()?.set_keep_alive_enabled(value)
    }

    fn get_keep_alive_idle_time(&self) -> Result<u64, ErrorCode> {
        self.open()?.get_keep_alive_idle_time()
    }

    fn set_keep_alive_idle_time(&self, value: u64) -> Result<(), ErrorCode> {
        self.open()?.set_keep_alive_idle_time(value)
    }

    fn get_keep_alive_interval(&self) -> Result<u64, ErrorCode> {
        self.open()?.get_keep_alive_interval()
    }

    fn set_keep_alive_interval(&self, value: u64) -> Result<(), ErrorCode> {
        self.open()?.set_keep_alive_interval(value)
    }

    fn get_keep_alive_count(&self) -> Result<u32, ErrorCode> {
        self.open()?.get_keep_alive_count()
    }

    fn set_keep_alive_count(&self, value: u32) -> Result<(), ErrorCode> {
        self.open()?.set_keep_alive_count(value)
    }

    fn get_hop_limit(&self) -> Result<u8, ErrorCode> {
        self.open()?.get_hop_limit()
    }

    fn set_hop_limit(&self, value: u8) -> Result<(), ErrorCode> {
        self.open()?.set_hop_limit(value)
    }

    fn get_receive_buffer_size(&self) -> Result<u64, ErrorCode> {
        self.open()?.get_receive_buffer_size()
    }

    fn set_receive_buffer_size(&self, value: u64) -> Result<(), ErrorCode> {
        self.open()?.set_receive_buffer_size(value)
    }

    fn get_send_buffer_size(&self) -> Result<u64, ErrorCode> {
        self.open()?.get_send_buffer_size()
    }

    fn set_send_buffer_size(&self, value: u64) -> Result<(), ErrorCode> {
        self.open()?.set_send_buffer_size(value)
    }
}
