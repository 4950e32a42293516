//! The contract `evented`.

use protocol::{Output, Session, Step};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

use crate::CHUNK;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "evented-handler",
    with: {
        "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
        "wasi:io/error@0.2.12": wasi::io::error,
        "wasi:io/poll@0.2.12": wasi::io::poll,
        "wasi:io/streams@0.2.12": wasi::io::streams,
        "wasi:sockets/network@0.2.12": wasi::sockets::network,
        "wasi:sockets/tcp@0.2.12": wasi::sockets::tcp,
    },
    pub_export_macro: true,
    default_bindings_module: "shell_p2::evented",
});

pub use exports::sockserve::handler::evented::{
    Change, ConnectionId, Event, Failure, Guest as Handler, Interest, InterestChange, Opened,
    Readiness, Ready,
};

impl Readiness {
    /// Whether a read gives something, be it an error.
    pub fn can_read(self) -> bool {
        self.intersects(Readiness::READABLE | Readiness::HANG_UP | Readiness::ERROR)
    }
}

/// The change that makes `connection` wait for `interest`.
pub fn interest(connection: ConnectionId, interest: Interest) -> Change {
    Change::Interest(InterestChange {
        connection,
        interest,
    })
}

/// The change that closes `connection` and has the host report why.
pub fn fail(connection: ConnectionId, reason: &str) -> Change {
    Change::Fail(Failure {
        connection,
        reason: reason.to_owned(),
    })
}

/// A connection, with its parts in the order in which they must be dropped where
/// a stream is a child of its socket.
pub struct Connection {
    pub input: InputStream,
    pub output: OutputStream,
    pub socket: TcpSocket,
    interest: Interest,
}

impl From<Opened> for Connection {
    fn from(opened: Opened) -> Connection {
        Connection {
            input: opened.input,
            output: opened.output,
            socket: opened.socket,
            interest: Interest::READABLE,
        }
    }
}

impl Connection {
    /// Waits for `interest` from now on. A change, unless it does so already.
    pub fn wait_for(&mut self, connection: ConnectionId, new: Interest) -> Option<Change> {
        (std::mem::replace(&mut self.interest, new) != new).then(|| interest(connection, new))
    }

    /// How much can be written now.
    pub fn permit(&self) -> Result<usize, StreamError> {
        Ok(usize::try_from(self.output.check_write()?).unwrap_or(CHUNK))
    }
}

/// A session and the connection that it is carried over.
///
/// Reads only while no output waits, and so holds back a peer that sends faster
/// than it reads.
pub struct Served<S> {
    pub connection: Connection,
    pub session: S,
    out: Output,
    step: Step,
    ended: bool,
}

impl<S: Session> Served<S> {
    /// Opens the session. What it has to say goes out with the first
    /// [`advance`](Served::advance).
    pub fn new(connection: Connection, mut session: S) -> Served<S> {
        let mut out = Output::default();
        let step = session.open(&mut out);
        Served {
            connection,
            session,
            out,
            step,
            ended: false,
        }
    }

    /// Adds output that nothing from the peer was the cause of.
    pub fn say(&mut self, bytes: &[u8]) {
        self.out.bytes.push(bytes);
    }

    /// Closes the connection when all output is written.
    pub fn close(&mut self) {
        self.step = Step::Close;
    }

    /// Does what can be done now, and says what the connection waits for next:
    /// nothing if it is to be closed. `can_read` is whether to read a chunk.
    pub fn advance(&mut self, can_read: bool) -> Option<Interest> {
        let delivered = self.deliver().ok()?;
        if delivered && can_read && !self.is_finished() {
            self.receive().ok()?;
            self.deliver().ok()?;
        }
        if !self.out.bytes.is_empty() {
            return Some(Interest::WRITABLE);
        }
        (!self.is_finished()).then_some(Interest::READABLE)
    }

    fn is_finished(&self) -> bool {
        self.step == Step::Close || self.ended
    }

    /// Reads and hands on one chunk; what more there is comes as another event,
    /// when the other connections have had their turn.
    fn receive(&mut self) -> Result<(), StreamError> {
        let limit = u64::try_from(self.session.read_limit()).unwrap_or(u64::MAX);
        match self.connection.input.read(limit) {
            Ok(chunk) if chunk.is_empty() => {}
            Ok(chunk) => self.step = self.session.receive(&chunk, &mut self.out),
            Err(StreamError::Closed) => {
                self.session.end(&mut self.out);
                self.ended = true;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Prints and writes what the session has to say as far as the stream permits
    /// it; says whether that is all.
    fn deliver(&mut self) -> Result<bool, StreamError> {
        loop {
            shell::print_log(&mut self.out.log);
            while !self.out.bytes.is_empty() {
                let permit = self.connection.permit()?;
                if permit == 0 {
                    return Ok(false);
                }
                let piece = self.out.bytes.front(permit);
                self.connection.output.write(piece)?;
                let written = piece.len();
                self.out.bytes.consume(written);
            }
            if self.step == Step::Close {
                return Ok(true);
            }
            self.step = self.session.more(&mut self.out);
            if self.out.bytes.is_empty() {
                return Ok(true);
            }
        }
    }
}
