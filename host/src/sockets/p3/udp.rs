//! `udp-socket` of WASI 0.3, which is passed on to wasmtime-wasi unchanged.
//!
//! It is in the same interface as `tcp-socket`, so the view has to implement both.

use crate::sockets::{Sockets, SocketsStore, SocketsView};
use wasmtime::Result;
use wasmtime::component::{Accessor, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::{
    HostUdpSocket, HostUdpSocketWithStore, IpAddressFamily, IpSocketAddress, UdpSocket,
};
use wasmtime_wasi::p3::sockets::SocketResult;
use wasmtime_wasi::sockets::WasiSockets;

impl<T: SocketsStore> HostUdpSocketWithStore<T> for Sockets {
    async fn send(
        store: &Accessor<T, Self>,
        socket: Resource<UdpSocket>,
        data: Vec<u8>,
        remote_address: Option<IpSocketAddress>,
    ) -> SocketResult<()> {
        let store = store.with_getter::<WasiSockets>(T::wasi_sockets);
        <WasiSockets as HostUdpSocketWithStore<T>>::send(&store, socket, data, remote_address).await
    }

    async fn receive(
        store: &Accessor<T, Self>,
        socket: Resource<UdpSocket>,
    ) -> SocketResult<(Vec<u8>, IpSocketAddress)> {
        let store = store.with_getter::<WasiSockets>(T::wasi_sockets);
        <WasiSockets as HostUdpSocketWithStore<T>>::receive(&store, socket).await
    }
}

macro_rules! pass_on {
    ($(fn $name:ident($($value:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $name(&mut self, $($value: $type),*) -> $result {
            HostUdpSocket::$name(&mut self.0, $($value),*)
        }
    )*};
}

impl HostUdpSocket for SocketsView<'_> {
    async fn bind(
        &mut self,
        socket: Resource<UdpSocket>,
        local_address: IpSocketAddress,
    ) -> SocketResult<()> {
        HostUdpSocket::bind(&mut self.0, socket, local_address).await
    }

    async fn connect(
        &mut self,
        socket: Resource<UdpSocket>,
        remote_address: IpSocketAddress,
    ) -> SocketResult<()> {
        HostUdpSocket::connect(&mut self.0, socket, remote_address).await
    }

    async fn create(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        HostUdpSocket::create(&mut self.0, family).await
    }

    pass_on! {
        fn disconnect(socket: Resource<UdpSocket>) -> SocketResult<()>;
        fn get_local_address(socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress>;
        fn get_remote_address(socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress>;
        fn get_address_family(socket: Resource<UdpSocket>) -> Result<IpAddressFamily>;
        fn get_unicast_hop_limit(socket: Resource<UdpSocket>) -> SocketResult<u8>;
        fn set_unicast_hop_limit(socket: Resource<UdpSocket>, value: u8) -> SocketResult<()>;
        fn get_receive_buffer_size(socket: Resource<UdpSocket>) -> SocketResult<u64>;
        fn set_receive_buffer_size(socket: Resource<UdpSocket>, value: u64) -> SocketResult<()>;
        fn get_send_buffer_size(socket: Resource<UdpSocket>) -> SocketResult<u64>;
        fn set_send_buffer_size(socket: Resource<UdpSocket>, value: u64) -> SocketResult<()>;
        fn drop(socket: Resource<UdpSocket>) -> Result<()>;
    }
}
