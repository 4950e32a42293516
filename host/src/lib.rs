//! `sockserve`: socketserver for WebAssembly components.
//!
//! The host owns the listeners, accepts connections and hands each to a
//! sandboxed component that speaks one of the contracts in `wit/`.
//!
//! # Layout
//!
//! - [`Component`]: a component file and its contract, not yet compiled.
//! - [`Handler`]: a component compiled and checked against its [`Grants`] and
//!   [`Limits`].
//! - [`Service`]: listeners with a handler and a [`Dispatch`], running.
//! - [`ServiceHandle`]: asks a running service for its [`Status`], a swap, a rollback.
//! - [`builtin`]: the components that are embedded in this crate.
//! - [`cli`]: the `sockserve` command.
//!
//! The way of a byte: `accept` takes the socket, `dispatch` makes or finds the
//! instance, `sockets` is what the guest reads and writes.
//!
//! # Example
//!
//! ```no_run
//! use sockserve::{Component, Dispatch, Handler, HandlerOptions, Service, ServiceOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let component = Component::from_file("echo.wasm".as_ref())?;
//! let options = HandlerOptions::new(Dispatch::Poll);
//! let handler = Handler::new("echo", &component, options)?;
//! let options = ServiceOptions {
//!     name: "echo".to_owned(),
//!     listen: vec!["tcp://127.0.0.1:0".parse()?],
//!     rollback: Default::default(),
//! };
//! let service = Service::start(options, handler)?;
//! println!("{:?}", service.local_addresses());
//! # Ok(())
//! # }
//! ```

mod aside;
pub mod cli;
mod component;
mod connection;
mod contract;
pub mod control;
mod descriptors;
mod dispatch;
mod guest;
mod host_port;
#[cfg(test)]
mod layers;
mod lifecycle;
mod limits;
mod listen;
mod log_queue;
mod panics;
mod service;
mod sockets;
mod sync;
mod text;
mod version;

pub use component::builtin;
pub use component::cache::{CacheError, CompileCache};
pub use component::reading::ReadError;
pub use component::{Component, ComponentError};
pub use contract::{Contract, Dispatch, Incompatible};
pub use guest::grants::{ConnectGrant, DirGrant, GrantError, Grants};
pub use guest::handler::{Handler, HandlerError, HandlerOptions};
pub use limits::Limits;
pub use listen::address::{AddressError, ListenAddress};
pub use service::probe::{Probe, ProbeError};
pub use service::rollback::{RollbackOn, RollbackPolicy};
pub use service::status::{PreviousStatus, ServiceState, Status, VersionState, VersionStatus};
pub use service::swap::{OldConnections, SwapError, SwapOptions, Swapped};
pub use service::{Service, ServiceHandle, ServiceOptions, StartError};
pub use version::counts::{FailureCounts, HandOverCounts};
