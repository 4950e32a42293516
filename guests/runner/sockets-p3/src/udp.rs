//! UDP sockets, which are denied, as `sockserve serve` denies them. They are here only
//! because `wasi:sockets/types` has both kinds.

use crate::exports::wasi::sockets0_3_0::types as exported;
use crate::wasi::sockets0_3_0::types::{ErrorCode, IpAddressFamily, IpSocketAddress};
use alloc::vec::Vec;

/// There is none.
pub(crate) enum Socket {}

impl exported::GuestUdpSocket for Socket {
    fn create(_: IpAddressFamily) -> Result<exported::UdpSocket, ErrorCode> {
        Err(ErrorCode::AccessDenied)
    }

    fn bind(&self, _: IpSocketAddress) -> Result<(), ErrorCode> {
        match *self {}
    }

    fn connect(&self, _: IpSocketAddress) -> Result<(), ErrorCode> {
        match *self {}
    }

    fn disconnect(&self) -> Result<(), ErrorCode> {
        match *self {}
    }

    async fn send(&self, _: Vec<u8>, _: Option<IpSocketAddress>) -> Result<(), ErrorCode> {
        match *self {}
    }

    async fn receive(&self) -> Result<(Vec<u8>, IpSocketAddress), ErrorCode> {
        match *self {}
    }

    fn get_local_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        match *self {}
    }

    fn get_remote_address(&self) -> Result<IpSocketAddress, ErrorCode> {
        match *self {}
    }

    fn get_address_family(&self) -> IpAddressFamily {
        match *self {}
    }

    fn get_unicast_hop_limit(&self) -> Result<u8, ErrorCode> {
        match *self {}
    }

    fn set_unicast_hop_limit(&self, _: u8) -> Result<(), ErrorCode> {
        match *self {}
    }

    fn get_receive_buffer_size(&self) -> Result<u64, ErrorCode> {
        match *self {}
    }

    fn set_receive_buffer_size(&self, _: u64) -> Result<(), ErrorCode> {
        match *self {}
    }

    fn get_send_buffer_size(&self) -> Result<u64, ErrorCode> {
        match *self {}
    }

    fn set_send_buffer_size(&self, _: u64) -> Result<(), ErrorCode> {
        match *self {}
    }
}
