//! Writing to a connection, and its FIN.

use super::{Connection, MAX_TRANSFER};
use crate::sync::lock;
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// The sending side.
#[derive(Default)]
pub(super) struct Output {
    /// Accepted from the guest and not yet by the kernel; at most
    /// [`MAX_TRANSFER`] bytes.
    unsent: Bytes,
    fin: Fin,
    /// Why nothing can be sent any more.
    broken: Option<Errno>,
}

/// What has become of our FIN.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    NotAsked,
    /// To be sent when nothing is unsent.
    Asked,
    Sent,
}

impl Connection {
    /// Hands the kernel as much of `bytes` as it takes, which may be nothing.
    ///
    /// For a caller that keeps what was not taken. What an instance before left
    /// to be sent goes first.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            {
                let mut output = self.output();
                output.check_open()?;
                self.send_unsent(&mut output)?;
                if output.unsent.is_empty() {
                    match self.send(&mut output, bytes) {
                        Err(Errno::AGAIN) => {}
                        result => return Poll::Ready(result.map_err(Into::into)),
                    }
                }
            }
            self.session.writer.register(cx.waker());
            ready!(self.poll_output(cx))?;
        }
    }

    /// Accepts all of `bytes`; what the kernel does not take now is sent by
    /// [`poll_flush`](Self::poll_flush).
    ///
    /// The caller has seen [`writable_bytes`](Self::writable_bytes) and writes
    /// no more than that.
    pub(crate) fn write(&self, bytes: Bytes) -> io::Result<()> {
        let mut output = self.output();
        output.check_open()?;
        if !output.unsent.is_empty() {
            let mut joined = BytesMut::from(std::mem::take(&mut output.unsent));
            joined.extend_from_slice(&bytes);
            output.unsent = joined.freeze();
            return Ok(());
        }
        output.unsent = bytes;
        self.send_unsent(&mut output)?;
        if !output.unsent.is_empty() {
            self.ask_for_attention();
        }
        Ok(())
    }

    /// How much [`write`](Self::write) may be given: nothing while earlier
    /// output is unsent.
    pub(crate) fn writable_bytes(&self) -> io::Result<usize> {
        let mut output = self.output();
        output.check_open()?;
        self.send_unsent(&mut output)?;
        if output.unsent.is_empty() {
            Ok(MAX_TRANSFER)
        } else {
            Ok(0)
        }
    }

    /// Whether the kernel has still to take something that was written.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.output().unsent.is_empty()
    }

    /// How much the kernel has still to take, unless nothing can be sent any
    /// more.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.output().unsent.len()
    }

    /// Is ready when the kernel takes something.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output().check_open()?;
        self.session.writer.register(cx.waker());
        self.poll_output(cx)
    }

    /// Sends what is unsent, and the FIN if it was asked for.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut output = self.output();
                if let Some(error) = output.broken {
                    return Poll::Ready(Err(error.into()));
                }
                self.send_unsent(&mut output)?;
                if output.unsent.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(self.poll_output(cx))?;
        }
    }

    /// Sends what an instance before has left to be sent. Done when that is all, or
    /// when nothing can be sent any more.
    ///
    /// Beside a writer of the instance now: unlike `poll_flush` this does not take
    /// its place in the poller.
    pub(crate) async fn flushed(&self) {
        while !self.flush_now() {
            let Ok(registration) = self.registration() else {
                return;
            };
            // What was sent is tried again by `flush_now`, which knows when it is
            // no longer writable.
            match registration.writable().await {
                Ok(mut ready) => ready.retain_ready(),
                Err(_) => return,
            }
        }
    }

    /// Sends what is unsent without waiting. Says whether nothing is left.
    pub(crate) fn flush_now(&self) -> bool {
        let mut output = self.output();
        // Broken for good: nothing of it will ever be sent.
        self.send_unsent(&mut output).is_err() || output.unsent.is_empty()
    }

    /// Sends FIN after all that was written. Later writes are refused.
    pub(crate) fn shutdown_send(&self) {
        let mut output = self.output();
        if output.fin == Fin::NotAsked {
            output.fin = Fin::Asked;
            // A failure here is the peer's doing and shows in the next read.
            let _ = self.send_unsent(&mut output);
        }
    }

    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration()?
            .poll_write_ready(cx)
            .map(|ready| ready.map(|_| ()))
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        lock(&self.parts.output)
    }

    /// Gives the kernel what it takes of `unsent`, and FIN when its turn has
    /// come. An error is final.
    fn send_unsent(&self, output: &mut Output) -> Result<(), Errno> {
        while !output.unsent.is_empty() {
            let bytes = output.unsent.clone();
            match self.send(output, &bytes) {
                Ok(count) => drop(output.unsent.split_to(count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if output.fin == Fin::Asked {
            output.fin = Fin::Sent;
            // ENOTCONN: the peer has reset the connection.
            let _ = rustix::net::shutdown(&self.parts.socket, Shutdown::Write);
        }
        Ok(())
    }

    fn send(&self, output: &mut Output, bytes: &[u8]) -> Result<usize, Errno> {
        let send = || rustix::net::send(&self.parts.socket, bytes, SendFlags::NOSIGNAL);
        let result = match self.session.registration.get() {
            None => send(),
            Some(registration) => registration
                .try_io(Interest::WRITABLE, |_| Ok(send()?))
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)),
        };
        match result {
            Ok(count) => {
                self.parts
                    .bytes_out
                    .fetch_add(count as u64, Ordering::Relaxed);
                self.parts.traffic.add_out(count);
                Ok(count)
            }
            Err(Errno::AGAIN) => Err(Errno::AGAIN),
            Err(error) => {
                let _ = self.parts.lost.set(error);
                output.broken = Some(error);
                output.unsent = Bytes::new();
                Err(error)
            }
        }
    }
}

impl Output {
    fn check_open(&self) -> Result<(), Errno> {
        match self.broken {
            Some(error) => Err(error),
            // What the kernel answers after shutdown(SHUT_WR).
            None if self.fin != Fin::NotAsked => Err(Errno::PIPE),
            None => Ok(()),
        }
    }
}
