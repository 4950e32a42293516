//! The life cycle of Python's `socketserver`: set up, handle, finish.

use super::Connection;
use std::io;

/// A handler in the shape of Python's `socketserver.StreamRequestHandler`: one value per
/// connection. `blocking!(request::<TYPE>)` makes a component from it.
///
/// ```no_run
/// use sockserve_handler::blocking::{Connection, RequestHandler, request};
/// use std::io::{self, Write as _};
///
/// #[derive(Default)]
/// struct Greeter;
///
/// impl RequestHandler for Greeter {
///     fn handle(&mut self, connection: &mut Connection) -> io::Result<()> {
///         connection.write_all(b"Hello World!\n")
///     }
///
///     fn finish(&mut self, connection: &mut Connection) -> io::Result<()> {
///         println!("{} was greeted", connection.peer());
///         Ok(())
///     }
/// }
///
/// sockserve_handler::blocking!(request::<Greeter>);
/// # fn main() {}
/// ```
pub trait RequestHandler: Default {
    /// Runs first. If it fails, nothing else runs.
    fn setup(&mut self, connection: &mut Connection) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }

    /// Serves the connection.
    fn handle(&mut self, connection: &mut Connection) -> io::Result<()>;

    /// Runs after [`handle`](Self::handle), also if that has failed. The error of `handle`
    /// goes before the error of this.
    fn finish(&mut self, connection: &mut Connection) -> io::Result<()> {
        let _ = connection;
        Ok(())
    }
}

/// Serves a connection by a [`RequestHandler`].
pub fn request<H: RequestHandler>(connection: &mut Connection) -> io::Result<()> {
    let mut handler = H::default();
    handler.setup(connection)?;
    let handled = handler.handle(connection);
    let finished = handler.finish(connection);
    handled.and(finished)
}
