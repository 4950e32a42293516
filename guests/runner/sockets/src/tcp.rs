//! `wasi:sockets/tcp`: the sockets of connections, and those that the handler makes
//! itself.

use crate::Component;
use crate::connection::Part;
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::exports::wasi::sockets0_2_12::{tcp, tcp_create_socket};
use crate::streams::{Input, Output};
use crate::wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use crate::wasi::io::poll::Pollable;
use crate::wasi::sockets0_2_12::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use crate::wasi::sockets0_2_12::tcp::{ShutdownType, TcpSocket};
use crate::wasi::sockets0_2_12::tcp_create_socket as system;

impl tcp::Guest for Component {
    type TcpSocket = Socket;
}

impl tcp_create_socket::Guest for Component {
    fn create_tcp_socket(family: IpAddressFamily) -> Result<tcp::TcpSocket, ErrorCode> {
        let socket = system::create_tcp_socket(family)?;
        Ok(tcp::TcpSocket::new(Socket::Other(socket)))
    }
}

/// A socket as the handler holds it.
pub(crate) enum Socket {
    /// A connection's.
    Of(Part),
    /// One that the handler has made itself.
    Other(TcpSocket),
}

impl Socket {
    fn with<T>(
        &self,
        using: impl FnOnce(&TcpSocket) -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        match self {
            Self::Of(part) => part
                .connection()
                .with_socket(using)
                .unwrap_or(Err(ErrorCode::InvalidState)),
            Self::Other(socket) => using(socket),
        }
    }
}

fn streams(
    input: crate::wasi::io::streams::InputStream,
    output: crate::wasi::io::streams::OutputStream,
) -> (InputStream, OutputStream) {
    (
        InputStream::new(Input::Other(input)),
        OutputStream::new(Output::Other(output)),
    )
}

impl tcp::GuestTcpSocket for Socket {
    fn start_bind(&self, network: &Network, address: IpSocketAddress) -> Result<(), ErrorCode> {
        self.with(|socket| socket.start_bind(network, address))
    }

    fn finish_bind(&self) -> Result<(), ErrorCode> {
        self.with(TcpSocket::finish_bind)
    }

    fn start_connect(&self, network: &Network, address: IpSocketAddress) -> Result<(), ErrorCode> {
        self.with(|socket| socket.start_connect(network, address))
    }

    fn finish_connect(&self) -> Result<(InputStream, OutputStream), ErrorCode> {
        let (input, output) = self.with(TcpSocket::finish_connect)?;
        Ok(streams(input, output))
    }

    fn start_listen(&self) -> Result<(), ErrorCode> {
        self.with(TcpSocket::start_listen)
    }

    fn finish_listen(&self) -> Result<(), ErrorCode> {
        self.with(TcpSocket::finish_listen)
    }

    fn accept(&self) -> Result<(tcp::TcpSocket, InputStream, OutputStream), ErrorCode> {
        let (socket, input, output) = self.with(TcpSocket::accept)?;
        let (input, output) = streams(input, output);
        Ok((tcp::TcpSocket::new(Self::Other(socket)), input, output))
    }

    fn local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.with(TcpSocket::local_address)
    }

    fn remote_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        self.with(TcpSocket::remote_address)
    }

    fn is_listening(&self) -> bool {
        let listening = self.with(|socket| Ok(socket.is_listening()));
        listening.unwrap_or(false)
    }

    fn address_family(&self) -> IpAddressFamily {
        let family = self.with(|socket| Ok(socket.address_family()));
        family.unwrap_or(IpAddressFamily::Ipv4)
    }

    fn set_listen_backlog_size(&self, value: u64) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_listen_backlog_size(value))
    }

    fn keep_alive_enabled(&self) -> Result<bool, ErrorCode> {
        self.with(TcpSocket::keep_alive_enabled)
    }

    fn set_keep_alive_enabled(&self, value: bool) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_keep_alive_enabled(value))
    }

    fn keep_alive_idle_time(&self) -> Result<u64, ErrorCode> {
        self.with(TcpSocket::keep_alive_idle_time)
    }

    fn set_keep_alive_idle_time(&self, value: u64) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_keep_alive_idle_time(value))
    }

    fn keep_alive_interval(&self) -> Result<u64, ErrorCode> {
        self.with(TcpSocket::keep_alive_interval)
    }

    fn set_keep_alive_interval(&self, value: u64) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_keep_alive_interval(value))
    }

    fn keep_alive_count(&self) -> Result<u32, ErrorCode> {
        self.with(TcpSocket::keep_alive_count)
    }

    fn set_keep_alive_count(&self, value: u32) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_keep_alive_count(value))
    }

    fn hop_limit(&self) -> Result<u8, ErrorCode> {
        self.with(TcpSocket::hop_limit)
    }

    fn set_hop_limit(&self, value: u8) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_hop_limit(value))
    }

    fn receive_buffer_size(&self) -> Result<u64, ErrorCode> {
        self.with(TcpSocket::receive_buffer_size)
    }

    fn set_receive_buffer_size(&self, value: u64) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_receive_buffer_size(value))
    }

    fn send_buffer_size(&self) -> Result<u64, ErrorCode> {
        self.with(TcpSocket::send_buffer_size)
    }

    fn set_send_buffer_size(&self, value: u64) -> Result<(), ErrorCode> {
        self.with(|socket| socket.set_send_buffer_size(value))
    }

    fn subscribe(&self) -> Pollable {
        match self {
            // A connected socket is ready for everything. A pollable of the system's would
            // keep the system's socket from being dropped.
            Self::Of(_) => subscribe_duration(0),
            Self::Other(socket) => socket.subscribe(),
        }
    }

    fn shutdown(&self, how: ShutdownType) -> Result<(), ErrorCode> {
        self.with(|socket| socket.shutdown(how))
    }
}
