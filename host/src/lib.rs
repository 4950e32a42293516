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
//! - [`Remote`]: asks a running service for its [`Status`], a swap, a rollback.
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

mod accept;
mod address;
mod aside;
pub mod builtin;
pub mod cli;
mod contract;
pub mod control;
mod descriptors;
mod dispatch;
mod guest;
mod host_port;
mod limits;
mod log_queue;
mod panics;
mod service;
mod sockets;
mod sync;
mod text;

pub use address::{AddressError, ListenAddress};
pub use contract::{Contract, Dispatch, Incompatible};
pub use guest::cache::{CacheError, CompileCache};
pub use guest::component::{Component, ComponentError};
pub use guest::grants::{ConnectGrant, DirGrant, GrantError, Grants};
pub use guest::handler::{Handler, HandlerError, HandlerOptions};
pub use guest::reading::ReadError;
pub use limits::Limits;
pub use service::counts::{FailureCounts, HandOverCounts};
pub use service::probe::{Probe, ProbeError};
pub use service::rollback::{RollbackOn, RollbackPolicy};
pub use service::status::{PreviousStatus, ServiceState, Status, VersionState, VersionStatus};
pub use service::swap::{Old, SwapError, SwapOptions, Swapped};
pub use service::{Remote, Service, ServiceOptions, StartError};
