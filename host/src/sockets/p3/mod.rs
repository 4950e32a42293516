//! WASI 0.3: an accepted connection as `tcp-socket`, with the streams of its `send`
//! and `receive`.
//!
//! The bytes move directly between the kernel and the guest's memory; the host
//! buffers none of them. UDP sockets are passed on to wasmtime-wasi, because 0.3
//! has both kinds of socket in one interface.

mod udp;

use crate::connection::{Held, MAX_TRANSFER};
use crate::sockets::{Sockets, SocketsStore, SocketsView};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, Linker, Resource, Source, StreamConsumer,
    StreamProducer, StreamReader, StreamResult,
};
use wasmtime::{AsContextMut as _, Result, StoreContextMut};
use wasmtime_wasi::p3::bindings::sockets::types::{
    Duration, ErrorCode, Host, HostTcpSocket, HostTcpSocketWithStore, IpAddressFamily,
    IpSocketAddress, TcpSocket, add_to_linker as add_types_to_linker,
};
use wasmtime_wasi::p3::sockets::{SocketError, SocketResult};
use wasmtime_wasi::sockets::WasiSockets;

/// Replaces wasmtime-wasi's `wasi:sockets/types` by ours.
pub(crate) fn add_to_linker<T: SocketsStore>(linker: &mut Linker<T>) -> Result<()> {
    add_types_to_linker::<T, Sockets>(linker, T::sockets)
}

/// Tells the future that the guest holds how a direction ended.
type Ending = oneshot::Sender<Result<(), ErrorCode>>;

/// The producer of the stream that `receive` returns.
struct Receive(Option<(Held, Ending)>);

impl Receive {
    fn end(&mut self, result: Result<(), ErrorCode>) -> StreamResult {
        if let Some((_, ending)) = self.0.take() {
            // The guest may have dropped the future.
            let _ = ending.send(result);
        }
        StreamResult::Dropped
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D: 'static> StreamProducer<D> for Receive {
    type Item = u8;
    type Buffer = bytes::BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let Some((held, _)) = &self.0 else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        let Some(connection) = held.get() else {
            return Poll::Ready(Ok(self.end(Err(OVER))));
        };
        // A read of zero bytes asks for readiness.
        let wait_only = destination.remaining(store.as_context_mut()) == Some(0);
        let mut destination = (!wait_only).then(|| destination.as_direct(store, MAX_TRANSFER));
        loop {
            if let Some(destination) = &mut destination {
                let buffer = destination.remaining();
                let cap = buffer.len().min(MAX_TRANSFER);
                let (buffer, _) = buffer.split_at_mut(cap);
                match connection.try_read(buffer) {
                    Ok(0) => return Poll::Ready(Ok(self.end(Ok(())))),
                    Ok(count) => {
                        destination.mark_written(count);
                        return Poll::Ready(Ok(StreamResult::Completed));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Ok(self.end(Err(error.into())))),
                }
            }
            match connection.poll_readable(cx) {
                Poll::Ready(()) if wait_only => {
                    return Poll::Ready(Ok(StreamResult::Completed));
                }
                Poll::Ready(()) => {}
                Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The consumer of the stream that the guest gives to `send`.
struct Send(Option<(Held, Ending)>);

impl Send {
    fn end(&mut self, result: Result<(), ErrorCode>) -> StreamResult {
        if let Some((held, ending)) = self.0.take() {
            // A handler that was asked to hand the connection over drops its stream
            // in order to do so. If the handler ends instead, the close of the
            // connection sends FIN.
            if let Some(connection) = held.get()
                && !connection.was_told()
            {
                connection.shutdown_send();
            }
            let _ = ending.send(result);
        }
        StreamResult::Dropped
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl<D: 'static> StreamConsumer<D> for Send {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let Some((held, _)) = &self.0 else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        let Some(connection) = held.get() else {
            return Poll::Ready(Ok(self.end(Err(OVER))));
        };
        let mut source = source.as_direct(store);
        let bytes = source.remaining();
        // A write of zero bytes asks for readiness.
        let result = if bytes.is_empty() {
            connection.poll_writable(cx).map_ok(|()| 0)
        } else {
            connection.poll_write(cx, bytes)
        };
        match result {
            Poll::Ready(Ok(count)) => {
                source.mark_read(count);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(error)) => {
                let error = match error.kind() {
                    io::ErrorKind::BrokenPipe => ErrorCode::ConnectionBroken,
                    _ => error.into(),
                };
                Poll::Ready(Ok(self.end(Err(error))))
            }
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The error of a connected socket for `bind`, `connect` and `listen`, and for a
/// second `send` or `receive`.
const INVALID_STATE: ErrorCode = ErrorCode::InvalidState;

/// The error for an address that WASI cannot express.
const UNSUPPORTED_ADDRESS: ErrorCode = ErrorCode::NotSupported;

/// The end of a stream whose connection's handler is done.
const OVER: ErrorCode = ErrorCode::ConnectionAborted;

/// Whether an accepted connection is behind `socket`.
fn is_accepted<T: SocketsStore>(
    store: &Accessor<T, Sockets>,
    socket: &Resource<TcpSocket>,
) -> bool {
    store.with(|mut access| access.get().accepted(socket).is_some())
}

/// Returns the same store with wasmtime-wasi's view of it.
fn wasi<'a, T: SocketsStore>(access: &'a mut Access<'_, T, Sockets>) -> Access<'a, T, WasiSockets> {
    Access::new(access.as_context_mut(), |store: &mut T| {
        store.wasi_sockets()
    })
}

impl<T: SocketsStore> HostTcpSocketWithStore<T> for Sockets {
    async fn connect(
        store: &Accessor<T, Self>,
        socket: Resource<TcpSocket>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        if is_accepted(store, &socket) {
            return Err(INVALID_STATE.into());
        }
        let store = store.with_getter::<WasiSockets>(T::wasi_sockets);
        WasiSockets::connect(&store, socket, remote_address).await
    }

    async fn listen(
        mut store: Access<'_, T, Self>,
        socket: Resource<TcpSocket>,
    ) -> SocketResult<StreamReader<Resource<TcpSocket>>> {
        if store.get().accepted(&socket).is_some() {
            return Err(INVALID_STATE.into());
        }
        WasiSockets::listen(wasi(&mut store), socket).await
    }

    fn send(
        mut store: Access<'_, T, Self>,
        socket: Resource<TcpSocket>,
        mut data: StreamReader<u8>,
    ) -> Result<FutureReader<Result<(), ErrorCode>>> {
        let mut view = store.get();
        let Some(accepted) = view.accepted_mut(&socket) else {
            return WasiSockets::send(wasi(&mut store), socket, data);
        };
        let taken = std::mem::replace(&mut accepted.send_taken, true);
        let held = accepted.connection().map(|connection| connection.hold());
        let (ending, ended) = oneshot::channel();
        match held {
            Some(held) if !taken => data.pipe(&mut store, Send(Some((held, ending))))?,
            _ => {
                data.close(&mut store)?;
                let _ = ending.send(Err(INVALID_STATE));
            }
        }
        FutureReader::new(&mut store, ended)
    }

    fn receive(
        mut store: Access<'_, T, Self>,
        socket: Resource<TcpSocket>,
    ) -> Result<(StreamReader<u8>, FutureReader<Result<(), ErrorCode>>)> {
        let mut view = store.get();
        let Some(accepted) = view.accepted_mut(&socket) else {
            return WasiSockets::receive(wasi(&mut store), socket);
        };
        let taken = std::mem::replace(&mut accepted.receive_taken, true);
        let held = accepted.connection().map(|connection| connection.hold());
        let (ending, ended) = oneshot::channel();
        let stream = match held {
            Some(held) if !taken => StreamReader::new(&mut store, Receive(Some((held, ending))))?,
            _ => {
                let _ = ending.send(Err(INVALID_STATE));
                StreamReader::new(&mut store, std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }
}

impl Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<ErrorCode> {
        Host::convert_error_code(&mut self.0, error)
    }
}

impl HostTcpSocket for SocketsView<'_> {
    properties! {
        fn get_keep_alive_enabled() -> bool = keep_alive_enabled;
        fn set_keep_alive_enabled(value: bool) -> () = set_keep_alive_enabled;
        fn get_keep_alive_idle_time() -> Duration = keep_alive_idle_time;
        fn set_keep_alive_idle_time(value: Duration) -> () = set_keep_alive_idle_time;
        fn get_keep_alive_interval() -> Duration = keep_alive_interval;
        fn set_keep_alive_interval(value: Duration) -> () = set_keep_alive_interval;
        fn get_keep_alive_count() -> u32 = keep_alive_count;
        fn set_keep_alive_count(value: u32) -> () = set_keep_alive_count;
        fn get_hop_limit() -> u8 = hop_limit;
        fn set_hop_limit(value: u8) -> () = set_hop_limit;
        fn get_receive_buffer_size() -> u64 = receive_buffer_size;
        fn set_receive_buffer_size(value: u64) -> () = set_receive_buffer_size;
        fn get_send_buffer_size() -> u64 = send_buffer_size;
        fn set_send_buffer_size(value: u64) -> () = set_send_buffer_size;
    }

    fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        HostTcpSocket::create(&mut self.0, family)
    }

    async fn bind(
        &mut self,
        socket: Resource<TcpSocket>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(INVALID_STATE.into()),
            None => HostTcpSocket::bind(&mut self.0, socket, local_address).await,
        }
    }

    fn get_local_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match self.accepted(&socket) {
            Some(accepted) => {
                let connection = accepted.connection().ok_or(INVALID_STATE)?;
                let local = connection.local_ip().map_err(ErrorCode::from)?;
                Ok(local.ok_or(UNSUPPORTED_ADDRESS)?.into())
            }
            None => HostTcpSocket::get_local_address(&mut self.0, socket),
        }
    }

    fn get_remote_address(&mut self, socket: Resource<TcpSocket>) -> SocketResult<IpSocketAddress> {
        match self.accepted(&socket) {
            Some(accepted) => {
                let connection = accepted.connection().ok_or(INVALID_STATE)?;
                let peer = connection.peer().ip();
                Ok(peer.ok_or(UNSUPPORTED_ADDRESS)?.into())
            }
            None => HostTcpSocket::get_remote_address(&mut self.0, socket),
        }
    }

    fn get_is_listening(&mut self, socket: Resource<TcpSocket>) -> Result<bool> {
        match self.accepted(&socket) {
            Some(_) => Ok(false),
            None => HostTcpSocket::get_is_listening(&mut self.0, socket),
        }
    }

    fn get_address_family(&mut self, socket: Resource<TcpSocket>) -> Result<IpAddressFamily> {
        match self.accepted(&socket) {
            Some(accepted) if accepted.is_ipv4 => Ok(IpAddressFamily::Ipv4),
            Some(_) => Ok(IpAddressFamily::Ipv6),
            None => HostTcpSocket::get_address_family(&mut self.0, socket),
        }
    }

    fn set_listen_backlog_size(
        &mut self,
        socket: Resource<TcpSocket>,
        value: u64,
    ) -> SocketResult<()> {
        match self.accepted(&socket) {
            Some(_) => Err(INVALID_STATE.into()),
            None => HostTcpSocket::set_listen_backlog_size(&mut self.0, socket, value),
        }
    }

    fn drop(&mut self, socket: Resource<TcpSocket>) -> Result<()> {
        if self.drop_accepted(&socket)? {
            return Ok(());
        }
        HostTcpSocket::drop(&mut self.0, socket)
    }
}
