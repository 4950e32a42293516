//! WASI 0.2: an accepted connection as `tcp-socket`, `input-stream` and
//! `output-stream`.

use crate::connection::{Connection, Held};
use crate::sockets::{Sockets, SocketsStore, SocketsView, push_socket};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use wasmtime::Result;
use wasmtime::component::{Linker, Resource, ResourceTable};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{
    self, ErrorCode, HostNetwork, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::{
    Duration, Host, HostTcpSocket, ShutdownType, TcpSocket, add_to_linker as add_tcp_to_linker,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream, IoError, OutputStream, Pollable,
    SocketError, SocketResult, StreamError, StreamResult,
};

/// The three resources that `accept` returns in WASI 0.2.
pub(crate) type Triple = (
    Resource<TcpSocket>,
    Resource<DynInputStream>,
    Resource<DynOutputStream>,
);

/// Replaces wasmtime-wasi's `wasi:sockets/tcp` by ours.
pub(crate) fn add_to_linker<T: SocketsStore>(linker: &mut Linker<T>) -> Result<()> {
    add_tcp_to_linker::<T, Sockets>(linker, T::sockets)
}

/// Puts a connection into a guest's table.
///
/// The streams are not children of the socket, so a guest may drop the three in any
/// order.
pub(crate) fn push(table: &mut ResourceTable, connection: &Arc<Connection>) -> Result<Triple> {
    let socket = push_socket(table, connection)?;
    let input: DynInputStream = Box::new(Input::new(connection));
    let output: DynOutputStream = Box::new(Output::new(connection));
    Ok((socket, table.push(input)?, table.push(output)?))
}

/// The `input-stream` of a connection.
pub(super) struct Input(Held);

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let connection = self.0.get().ok_or(StreamError::Closed)?;
        match connection.try_read_bytes(size) {
            Ok(bytes) if bytes.is_empty() => Err(StreamError::Closed),
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }

    /// Reads first and waits second, so that input that is there already needs no
    /// wait.
    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut interrupted = false;
        loop {
            let bytes = self.read(size)?;
            if !bytes.is_empty() || size == 0 || interrupted {
                return Ok(bytes);
            }
            interrupted = self.wait().await;
        }
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.wait().await;
    }
}

impl Input {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        Self(connection.hold())
    }

    /// Waits for input. Returns true if the wait was interrupted.
    async fn wait(&self) -> bool {
        let Some(connection) = self.0.get() else {
            return false;
        };
        let readable = std::future::poll_fn(|cx| connection.poll_readable(cx));
        let interrupted = connection.unless_told(readable).await;
        if interrupted {
            connection.clear_interrupt();
        }
        interrupted
    }
}

/// The `output-stream` of a connection.
pub(super) struct Output {
    held: Held,
    /// How many bytes the last `check-write` still permits.
    permit: usize,
    /// Whether it is closed after any error, as a pipe is: a program knows EPIPE.
    is_pipe: bool,
}

#[async_trait]
impl OutputStream for Output {
    fn check_write(&mut self) -> StreamResult<usize> {
        let permit = self.connection()?.writable_bytes();
        self.permit = permit.map_err(|error| self.error(error))?;
        Ok(self.permit)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.permit = self.permit.checked_sub(bytes.len()).ok_or_else(|| {
            StreamError::Trap(wasmtime::format_err!(
                "output-stream.write: {} bytes, but check-write permitted {}",
                bytes.len(),
                self.permit
            ))
        })?;
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.connection()?.write(bytes);
        written.map_err(|error| self.error(error))
    }

    /// Does nothing: the host sends without a request what the kernel did not take.
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    /// Waits once. If the wait was interrupted, it permits no bytes.
    async fn write_ready(&mut self) -> StreamResult<usize> {
        let connection = self.connection()?;
        if flushed_or_told(&connection).await {
            connection.clear_interrupt();
            self.permit = 0;
            return Ok(0);
        }
        self.check_write()
    }

    /// Does what the default implementation does. But it keeps an interruption for
    /// a later call that can report it to the guest, as `blocking-splice` does.
    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        let connection = self.connection()?;
        loop {
            let permit = self.check_write()?;
            self.write(bytes.split_to(bytes.len().min(permit)))?;
            if bytes.is_empty() {
                break;
            }
            // The next check-write reports an error.
            let _ = std::future::poll_fn(|cx| connection.poll_flush(cx)).await;
        }
        flushed_or_told(&connection).await;
        match self.check_write() {
            Ok(_) | Err(StreamError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        if let Some(connection) = self.held.get()
            && flushed_or_told(&connection).await
        {
            connection.clear_interrupt();
        }
    }
}

impl Output {
    fn new(connection: &Arc<Connection>) -> Self {
        Self {
            held: connection.hold(),
            permit: 0,
            is_pipe: false,
        }
    }

    /// The standard output of a program.
    pub(super) fn of_program(connection: &Arc<Connection>) -> Self {
        Self {
            is_pipe: true,
            ..Self::new(connection)
        }
    }

    fn error(&self, error: io::Error) -> StreamError {
        match error.kind() {
            // As in wasmtime-wasi.
            io::ErrorKind::BrokenPipe => StreamError::Closed,
            _ if self.is_pipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        }
    }

    /// Returns the connection. Once its handler is done, the stream is closed.
    fn connection(&self) -> StreamResult<Arc<Connection>> {
        self.held.get().ok_or(StreamError::Closed)
    }
}

/// Waits until all output is sent. Returns true if the connection was asked to
/// leave before that.
async fn flushed_or_told(connection: &Connection) -> bool {
    // The next check-write reports an error.
    let flushed = std::future::poll_fn(|cx| connection.poll_flush(cx).map(drop));
    connection.unless_told(flushed).await
}

/// The error of a connected socket for `bind`, `connect`, `listen` and `accept`.
const CONNECTED: ErrorCode = ErrorCode::InvalidState;
/// The error for the `finish-` of an operation that was never started.
const NOT_STARTED: ErrorCode = ErrorCode::NotInProgress;
/// The error for everything once the handler of the connection is done.
const OVER: ErrorCode = ErrorCode::InvalidState;

/// The error for an address that WASI cannot express.
const UNSUPPORTED_ADDRESS: ErrorCode = ErrorCode::NotSupported;

impl Host for SocketsView<'_> {}

// The errors of `tcp` are `network`'s.
impl network::Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<ErrorCode> {
        network::Host::convert_error_code(&mut self.0, error)
    }

    fn network_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.0, error)
    }
}

impl HostNetwork for SocketsView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        HostNetwork::drop(&mut self.0, network)
    }
}

impl HostTcpSocket for SocketsView<'_> {
    properties! {
        fn keep_alive_enabled() -> bool = keep_alive_enabled;
        fn set_keep_alive_enabled(value: bool) -> () = set_keep_alive_enabled;
        fn keep_alive_idle_time() -> Duration = keep_alive_idle_time;
        fn set_keep_alive_idle_time(value: Duration) -> () = set_keep_alive_idle_time;
        fn keep_alive_interval() -> Duration = keep_alive_interval;
        fn set_keep_alive_interval(value: Duration) -> () = set_keep_alive_interval;
        fn keep_alive_count() -> u32 = keep_alive_count;
        fn set_keep_alive_count(value: u32) -> () = set_keep_alive_count;
        fn hop_limit() -> u8 = hop_limit;
        fn set_hop_limit(value: u8) -> () = set_hop_limit;
        fn receive_buffer_size() -> u64 = receive_buffer_size;
        fn set_receive_buffer_size(value: u64) -> () = set_receive_buffer_size;
        fn send_buffer_size() -> u64 = send_buffer_size;
        fn set_send_buffer_size(value: u64) -> () = set_send_buffer_size;
    }

    async fn start_bind(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(CONNECTED.into()),
            None => self.0.start_bind(socket, network, local_address).await,
        }
    }

    fn finish_bind(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(NOT_STARTED.into()),
            None => self.0.finish_bind(socket),
        }
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(CONNECTED.into()),
            None => self.0.start_connect(socket, network, remote_address),
        }
    }

    fn finish_connect(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        match self.accepted(&socket) {
            Some(_) => Err(NOT_STARTED.into()),
            None => self.0.finish_connect(socket),
        }
    }

    async fn start_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(CONNECTED.into()),
            None => self.0.start_listen(socket).await,
        }
    }

    fn finish_listen(&mut self, socket: Resource<TcpSocket>) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(NOT_STARTED.into()),
            None => self.0.finish_listen(socket),
        }
    }

    fn accept(&mut self, socket: Resource<TcpSocket>) -> SocketResult<Triple> {
        match self.accepted(&socket) {
            Some(_) => Err(CONNECTED.into()),
            None => self.0.accept(socket),
        }
    }

    fn local_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match self.accepted(&socket) {
            Some(accepted) => {
                let local = accepted.connection().ok_or(OVER)?.local_ip()?;
                Ok(local.ok_or(UNSUPPORTED_ADDRESS)?.into())
            }
            None => self.0.local_address(socket),
        }
    }

    fn remote_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match self.accepted(&socket) {
            Some(accepted) => {
                let connection = accepted.connection().ok_or(OVER)?;
                let peer = connection.peer().ip();
                Ok(peer.ok_or(UNSUPPORTED_ADDRESS)?.into())
            }
            None => self.0.remote_address(socket),
        }
    }

    fn is_listening(&mut self, socket: Resource<TcpSocket>) -> Result<bool> {
        match self.accepted(&socket) {
            Some(_) => Ok(false),
            None => self.0.is_listening(socket),
        }
    }

    fn address_family(&mut self, socket: Resource<TcpSocket>) -> Result<IpAddressFamily> {
        match self.accepted(&socket) {
            Some(accepted) if accepted.is_ipv4 => Ok(IpAddressFamily::Ipv4),
            Some(_) => Ok(IpAddressFamily::Ipv6),
            None => self.0.address_family(socket),
        }
    }

    fn set_listen_backlog_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(CONNECTED.into()),
            None => self.0.set_listen_backlog_size(socket, value),
        }
    }

    fn subscribe(&mut self, socket: Resource<TcpSocket>) -> Result<Resource<DynPollable>> {
        match self.accepted(&socket) {
            // No operation is ever in progress on a connected socket. So its
            // pollable is always ready, as in wasmtime-wasi.
            Some(_) => {
                let ready = self.0.table.push(Ready)?;
                wasmtime_wasi::p2::subscribe(self.0.table, ready)
            }
            None => self.0.subscribe(socket),
        }
    }

    fn shutdown(&mut self, socket: Resource<TcpSocket>, how: ShutdownType) -> SocketResult<()> {
        let Some(accepted) = self.accepted(&socket) else {
            return self.0.shutdown(socket, how);
        };
        let connection = accepted.connection().ok_or(OVER)?;
        if matches!(how, ShutdownType::Receive | ShutdownType::Both) {
            connection.shutdown_receive();
        }
        if matches!(how, ShutdownType::Send | ShutdownType::Both) {
            connection.shutdown_send();
        }
        Ok(())
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> Result<()> {
        if self.drop_accepted(&socket)? {
            return Ok(());
        }
        HostTcpSocket::drop(&mut self.0, socket)
    }
}

/// The pollable of a connected socket, which is always ready.
struct Ready;

#[async_trait]
impl Pollable for Ready {
    async fn ready(&mut self) {}
}
