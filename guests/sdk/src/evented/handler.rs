//! What an evented handler implements.

use super::{Connection, Connections};
use std::io;

/// Serves all connections of an instance. No method may wait.
///
/// An error of a method fails the connection: the host closes it, and logs the error as one
/// line. No other connection is affected.
pub trait Handler {
    /// What the handler knows of one connection.
    type Data: Default;

    /// A peer has connected.
    fn opened(&mut self, connection: &mut Connection<'_, Self::Data>) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }

    /// A connection has come from another version, with its data.
    fn resumed(&mut self, connection: &mut Connection<'_, Self::Data>) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }

    /// There is input, or its end. What is not taken stays for the next call.
    fn readable(&mut self, connection: &mut Connection<'_, Self::Data>) -> io::Result<()>;

    /// All output is sent. More can be written now.
    fn writable(&mut self, connection: &mut Connection<'_, Self::Data>) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }

    /// The connection ends, for whatever reason. What is written to it now is not sent.
    fn closed(&mut self, connection: &mut Connection<'_, Self::Data>) {
        let _ = connection;
    }

    /// The connection goes to another version. It is called in the place of
    /// [`closed`](Self::closed), before its data is saved.
    fn moved(&mut self, connection: &mut Connection<'_, Self::Data>) {
        let _ = connection;
    }

    /// The time that [`Connections::tick_after`] asked for is over.
    fn tick(&mut self, connections: &mut Connections<Self::Data>) -> io::Result<()> {
        let _ = connections;
        Ok(())
    }
}
