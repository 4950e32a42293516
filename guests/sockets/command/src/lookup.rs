//! The addresses of a name, of one family or of both.

use crate::{address, of};
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::ip_name_lookup::resolve_addresses;
use wasi::sockets::network::ErrorCode;

/// Prints the addresses, one a line.
pub(crate) fn resolve(name: &str, is_v6: Option<bool>) -> Result<(), String> {
    let found = resolve_addresses(&instance_network(), name);
    let found = of("resolve", found)?;
    let mut has_one = false;
    loop {
        match found.resolve_next_address() {
            Ok(Some(ip)) => {
                let ip = address::ip(ip);
                if is_v6.is_none_or(|is_v6| is_v6 == ip.is_ipv6()) {
                    has_one = true;
                    println!("{ip}");
                }
            }
            Ok(None) if has_one => return Ok(()),
            Ok(None) => return of("resolve", Err(ErrorCode::NameUnresolvable)),
            Err(ErrorCode::WouldBlock) => found.subscribe().block(),
            Err(code) => return of("resolve", Err(code)),
        }
    }
}
