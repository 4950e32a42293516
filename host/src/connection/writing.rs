//! Writing to a connection, and its FIN.

use super::register::transfer_once;
use super::{Connection, MAX_TRANSFER};
use crate::sync::lock;
use bytes::{Buf as _, Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::io;
use std::sync::MutexGuard;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// The sending side.
#[derive(Default)]
pub(super) struct Output {
    /// Bytes taken from the guest that the kernel has not taken yet; at most
    /// [`MAX_TRANSFER`].
    unsent: Bytes,
    fin: Fin,
    /// Why nothing can be sent any more. `None` if bytes can be sent.
    broken: Option<Errno>,
}

/// How far our FIN has come. It only goes forward.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    /// The sending half is open. From here to `Asked`.
    NotAsked,
    /// To be sent when nothing is unsent. From here to `Sent`.
    Asked,
    /// The kernel has it. The last state.
    Sent,
}

impl Connection {
    /// Gives the kernel as much of `bytes` as it takes. Waits until that is at least
    /// one byte, unless `bytes` is empty.
    ///
    /// For a caller that keeps what was not taken. Bytes that an earlier instance left
    /// unsent go first.
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

    /// Takes all of `bytes`. [`poll_flush`](Self::poll_flush) sends what the kernel
    /// does not take now.
    ///
    /// The caller has called [`writable_bytes`](Self::writable_bytes) and writes no
    /// more than that.
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

    /// How many bytes [`write`](Self::write) takes: 0 while earlier output is unsent.
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

    /// Whether the kernel has not taken everything that was written.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.output().unsent.is_empty()
    }

    /// How many bytes the kernel has not taken. 0 if nothing can be sent any more.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.output().unsent.len()
    }

    /// Is ready when the kernel takes bytes again.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output().check_open()?;
        self.session.writer.register(cx.waker());
        self.poll_output(cx)
    }

    /// Sends what is unsent, and then the FIN if it was asked for. Is ready when
    /// nothing is left, or with the error after which nothing can be sent.
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

    /// Sends what an earlier instance left unsent. Returns when nothing is left, or
    /// when nothing can be sent any more.
    ///
    /// May run beside the writer of the current instance: unlike `poll_flush` this does
    /// not replace the writer's waker in the poller.
    pub(crate) async fn flushed(&self) {
        while !self.flush_now() {
            let Ok(registration) = self.registration() else {
                return;
            };
            // `flush_now` tries again, and clears the readiness when the kernel takes
            // no more.
            match registration.writable().await {
                Ok(mut ready) => ready.retain_ready(),
                Err(_) => return,
            }
        }
    }

    /// Sends what is unsent without waiting. Returns whether nothing is left to send.
    pub(crate) fn flush_now(&self) -> bool {
        let mut output = self.output();
        // After an error nothing more can be sent.
        self.send_unsent(&mut output).is_err() || output.unsent.is_empty()
    }

    /// Sends FIN after all that was written. Later writes fail.
    pub(crate) fn shutdown_send(&self) {
        let mut output = self.output();
        if output.fin == Fin::NotAsked {
            output.fin = Fin::Asked;
            // The peer causes a failure here, and the next read shows it.
            let _ = self.send_unsent(&mut output);
        }
    }

    /// Is ready when the socket may have room for output.
    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration()?
            .poll_write_ready(cx)
            .map(|ready| ready.map(|_| ()))
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        lock(&self.parts.output)
    }

    /// Gives the kernel as much of `unsent` as it takes, and then FIN if that was asked
    /// for. After an error nothing can be sent any more.
    fn send_unsent(&self, output: &mut Output) -> Result<(), Errno> {
        // Taken out for the call: a copy that shares the bytes would cost an allocation.
        let mut unsent = std::mem::take(&mut output.unsent);
        while !unsent.is_empty() {
            match self.send(output, &unsent) {
                Ok(count) => unsent.advance(count),
                Err(Errno::AGAIN) => {
                    self.parts.enrolled.record.set_unsent(unsent.len());
                    output.unsent = unsent;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.parts.enrolled.record.set_unsent(0);
        if output.fin == Fin::Asked {
            output.fin = Fin::Sent;
            // ENOTCONN: the peer has reset the connection.
            let _ = rustix::net::shutdown(&self.parts.socket, Shutdown::Write);
        }
        Ok(())
    }

    /// Sends once, and counts the bytes. After an error other than `AGAIN` the output
    /// is broken, and nothing is unsent.
    fn send(&self, output: &mut Output, bytes: &[u8]) -> Result<usize, Errno> {
        let send = || rustix::net::send(&self.parts.socket, bytes, SendFlags::NOSIGNAL);
        let result = match self.session.registration.get() {
            None => send(),
            Some(registration) => {
                // If the kernel has not taken all, there is no more room.
                let is_last = |count| count < bytes.len();
                let send = || send().map_err(io::Error::from);
                transfer_once(registration, Interest::WRITABLE, send, is_last)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))
            }
        };
        match result {
            Ok(count) => {
                self.parts.enrolled.add_out(count);
                Ok(count)
            }
            Err(Errno::AGAIN) => {
                self.parts.enrolled.record.stall();
                Err(Errno::AGAIN)
            }
            Err(error) => {
                let _ = self.parts.lost.set(error);
                output.broken = Some(error);
                output.unsent = Bytes::new();
                self.parts.enrolled.record.set_unsent(0);
                Err(error)
            }
        }
    }
}

impl Output {
    /// Returns the error that a write gets, if the sending half is closed or broken.
    fn check_open(&self) -> Result<(), Errno> {
        match self.broken {
            Some(error) => Err(error),
            // What the kernel answers after shutdown(SHUT_WR).
            None if self.fin != Fin::NotAsked => Err(Errno::PIPE),
            None => Ok(()),
        }
    }
}
