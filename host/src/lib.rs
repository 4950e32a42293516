//! `sockserve`: socketserver for WebAssembly components.
//!
//! The host owns the sockets, and hands each connection or batch of datagrams to a
//! sandboxed component that speaks one of the contracts in `wit/`.
//!
//! # What is here
//!
//! - [`Component`]: a component file and its contract, not yet compiled.
//! - [`Handler`]: a component compiled and checked against its [`Grants`] and
//!   [`Limits`].
//! - [`Service`]: listeners with a handler and a [`Dispatch`], running.
//! - [`ServiceHandle`]: asks a running service for its [`Status`], a swap, a rollback.
//! - [`compose()`]: a handler as a command that listens by itself.
//! - [`componentize()`]: a core module of WASI preview 1 as a component.
//! - [`builtin`]: the components that are embedded in this crate.
//! - [`control`]: the control socket, both ends.
//! - [`cli`]: the `sockserve` command.
//!
//! # Layout
//!
//! A folder is a layer. It uses the layers below it, and a test (`layers.rs`) holds that.
//!
//! ```text
//!                cli          the command, a file per subcommand
//!                 │
//!              control        HTTP and JSON over a Unix socket
//!                 │
//!              service        one service's life: run, swap, probe, rollback, status
//!             │       │
//!       dispatch      │       from a connection to calls of a guest
//!             │       │
//!         version   listen    one version and its books │ from an address to connections
//!             │       │
//!           guest     │       a compiled component and its calls
//!        │    │    │  │
//!  component │ sockets│       a file's bytes and contract │ wasi:sockets
//!        datagram │ admission sockets for datagrams, and who may be answered │ who may come in
//!             │   │   │
//!              connection     an accepted stream, as the host holds it
//! ```
//!
//! The files beside the folders are leaves, which every layer may use.
//!
//! # Errors
//!
//! An error's text is one line that says what was wrong, where, and what would work, with
//! its cause. [`source`](std::error::Error::source) gives the cause as a value; to print
//! both says it twice.
//!
//! # Example
//!
//! ```no_run
//! use sockserve::{Component, Dispatch, Handler, HandlerOptions, Service, ServiceOptions};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let component = Component::from_file("echo.wasm".as_ref())?;
//! let handler = Handler::new("echo", &component, HandlerOptions::new(Dispatch::Poll))?;
//! let options = ServiceOptions::new("echo", ["tcp://127.0.0.1:0".parse()?]);
//! let mut service = Service::start(options, handler)?;
//! println!("{:?}", service.local_addresses());
//! // Until a listener fails, or something asks it to end.
//! service.ended().await?;
//! # Ok(())
//! # }
//! ```

mod admission;
mod aside;
pub mod cli;
mod component;
mod componentize;
mod compose;
mod connection;
mod contract;
pub mod control;
mod datagram;
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
mod memory_total;
mod panics;
mod registry;
mod service;
mod socket_file;
mod socket_name;
mod sockets;
mod sync;
mod text;
mod version;

pub use admission::blocks::{Block, BlockError, BlockFileError, BlockSource};
pub use admission::farewell::OnRefuse;
pub use admission::global::GlobalLimits;
pub use admission::load::MaxLoad;
pub use admission::policy::{AdmissionError, AdmissionOptions, AdmissionPolicy};
pub use admission::refusal::RefusedCounts;
pub use admission::rules::RulesError;
pub use admission::times::{AccessTime, AccessTimeError};
pub use component::builtin;
pub use component::cache::{CacheError, CompileCache};
pub use component::reading::ReadError;
pub use component::{Component, ComponentError, LifeCycleExports};
pub use componentize::{ComponentizeError, componentize};
pub use compose::{ComposeError, compose};
pub use contract::{Contract, Dispatch, Incompatible};
pub use datagram::counts::DatagramCounts;
pub use guest::grants::{ConnectGrant, DirGrant, GrantError, Grants};
pub use guest::handler::{Handler, HandlerOptions};
pub use guest::handler_error::HandlerError;
pub use guest::precompile::{Precompiled, precompile};
pub use limits::{LimitChanges, LimitError, Limits};
pub use listen::address::{AddressError, ListenAddress};
pub use listen::error::ListenError;
pub use listen::local::{LocalAddress, Transport};
pub use listen::opening::ListenOptions;
pub use registry::{KillError, Registry};
pub use service::connections::{ConnectionState, ConnectionStatus, KillRequest};
pub use service::probe::{Probe, ProbeError};
pub use service::rates::Rates;
pub use service::rollback::{RollbackOn, RollbackOptions, RollbackPolicy};
pub use service::status::{
    LimitsStatus, MemoryStatus, PreviousStatus, ServiceState, Status, VersionState, VersionStatus,
};
pub use service::swap::{
    CanaryOptions, OldConnections, SettingChanges, SwapError, SwapOptions, Swapped,
};
pub use service::{Service, ServiceHandle, ServiceOptions, StartError, StateFileError};
pub use socket_file::SocketFileError;
pub use version::access::{AccessLog, AccessLogError};
pub use version::counts::{FailureCounts, HandOverCounts};
pub use version::latency::{LatencyBucket, LatencyCounts};
