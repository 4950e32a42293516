//! The native servers. This program starts itself as one of them, so that a server has a
//! process of its own like all others.

mod chat;
mod datagrams;
mod epoll_echo;
mod tokio_echo;

use anyhow::{Context as _, Result};
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};

/// A native server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Native {
    /// Tokio on one thread, one task per connection.
    Tokio,
    /// Tokio with as many workers as there are cores.
    TokioMulti,
    /// One level-triggered epoll loop.
    Epoll,
    /// Tokio, one datagram at a time.
    TokioDatagrams,
    /// A loop of `recvmmsg` and `sendmmsg`.
    Recvmmsg,
    /// A chat room with Tokio.
    TokioChat,
}

/// Serves until it is killed. Without `path` at any port of loopback.
pub(crate) fn serve(native: Native, path: Option<PathBuf>) -> Result<()> {
    match native {
        Native::Tokio => one_thread()?.block_on(tokio_echo::serve(path)),
        Native::TokioMulti => {
            let runtime = Builder::new_multi_thread().enable_all().build();
            runtime.context("Tokio")?.block_on(tokio_echo::serve(path))
        }
        Native::Epoll => epoll_echo::serve(path),
        Native::TokioDatagrams => one_thread()?.block_on(datagrams::serve_tokio()),
        Native::Recvmmsg => datagrams::serve_recvmmsg(),
        Native::TokioChat => tokio::task::LocalSet::new().block_on(&one_thread()?, chat::serve()),
    }
}

fn one_thread() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("Tokio")
}
