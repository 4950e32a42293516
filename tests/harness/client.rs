//! A peer on the wire.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{PATIENCE, text};

/// A connection to a server. Every read and write has a deadline.
pub(crate) struct Client {
    /// Both ways: what it is made of is written to as well.
    reader: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Client {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => Client::new(stream),
            Err(error) => panic!("cannot connect to {address}: {error}"),
        }
    }

    /// Connects from this address. All of 127.0.0.0/8 are this machine's.
    #[track_caller]
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Client {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from((source, 0))).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        Client::new(socket.into())
    }

    /// A peer whose connection is there already.
    pub(crate) fn of_tcp(stream: TcpStream) -> Client {
        Client::new(stream)
    }

    /// A peer with little room for what it has not read, so that the kernel does
    /// not take it all.
    #[track_caller]
    pub(crate) fn connect_narrow(address: SocketAddr) -> Client {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        // Before it connects, as the window is agreed on then.
        sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        Client::new(socket.into())
    }

    /// Connects to the socket file of a server.
    #[track_caller]
    pub(crate) fn connect_unix(path: &Path) -> Client {
        match UnixStream::connect(path) {
            Ok(stream) => Client::of_unix(stream),
            Err(error) => panic!("cannot connect to {}: {error}", path.display()),
        }
    }

    /// Reading, writing and half-closing are the same for both kinds of stream, and
    /// the system tells them apart.
    pub(crate) fn of_unix(stream: UnixStream) -> Client {
        Client::timed(TcpStream::from(OwnedFd::from(stream)))
    }

    fn new(stream: TcpStream) -> Client {
        stream.set_nodelay(true).unwrap();
        Client::timed(stream)
    }

    fn timed(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            reader: BufReader::new(stream),
        }
    }

    /// The same connection once more, to write on one thread and read on
    /// another.
    pub(crate) fn another(&self) -> Client {
        assert!(self.reader.buffer().is_empty());
        Client {
            reader: BufReader::new(self.stream().try_clone().unwrap()),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// What it is made of, for calls that have no place here.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream()
    }

    /// Its own address, which is what the server calls it.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream().local_addr().unwrap()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.reader.get_mut().write_all(bytes.as_ref()) {
            panic!("cannot send: {error}");
        }
    }

    /// Sends as much as it can, to a server that may close or never read.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) {
        let _ = self.reader.get_mut().write_all(bytes);
    }

    /// Sends until nobody takes any more, and says how much that was. It depends
    /// on the kernel, and on how soon a slow server is taken for a stuck one.
    pub(crate) fn send_until_stuck(&mut self, bytes: &[u8]) -> usize {
        let stuck = Duration::from_millis(200);
        self.stream().set_write_timeout(Some(stuck)).unwrap();
        let mut sent = 0;
        while let Ok(count @ 1..) = self.reader.get_mut().write(&bytes[sent..]) {
            sent += count;
        }
        self.stream().set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    /// Sends FIN.
    #[track_caller]
    pub(crate) fn finish_sending(&mut self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        sockopt::set_socket_linger(self.stream(), Some(Duration::ZERO)).unwrap();
    }

    #[track_caller]
    pub(crate) fn read_exact(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.reader.read(&mut bytes[filled..]) {
                Ok(0) => panic!("end of file after {}", text(&bytes[..filled])),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {}", text(&bytes[..filled])),
            }
        }
        bytes
    }

    /// Reads these bytes and no others.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let read = self.read_exact(expected.len());
        assert_eq!(text(read), text(expected));
    }

    /// Sends bytes and reads them back.
    #[track_caller]
    pub(crate) fn check_echo(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.send(bytes);
        self.expect(bytes);
    }

    /// Reads to the end of a line, which is part of it.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => line,
            Ok(_) => panic!("end of file after {}", text(&line)),
            Err(error) => panic!("{error} after {}", text(&line)),
        }
    }

    /// Reads to the end of file.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.reader.read_to_end(&mut bytes) {
            let end = bytes.len().saturating_sub(100);
            panic!("{error} after ...{}", text(&bytes[end..]));
        }
        bytes
    }

    /// Reads to the end of file, and nothing comes before it.
    #[track_caller]
    pub(crate) fn expect_eof(&mut self) {
        assert_eq!(text(self.read_to_end()), "");
    }

    /// Reads to an error, which comes before an end of file.
    #[track_caller]
    pub(crate) fn read_until_error(&mut self) -> io::Error {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Err(error) => error,
            Ok(_) => panic!("end of file after {} bytes", bytes.len()),
        }
    }

    /// Reads to the end of the connection, in whatever way it ends.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                panic!("{error} after {} bytes", bytes.len());
            }
            _ => bytes,
        }
    }

    /// Reads one byte. `None` at the end of the connection, in whatever way it ends.
    #[track_caller]
    pub(crate) fn drain_one(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends FIN, to a server that may have closed, and reads to the end of the connection.
    #[track_caller]
    pub(crate) fn drain_after_fin(&mut self) -> Vec<u8> {
        let _ = self.stream().shutdown(Shutdown::Write);
        self.drain()
    }

    /// Whether nothing has come that was not read.
    pub(crate) fn is_silent(&self) -> bool {
        if !self.reader.buffer().is_empty() {
            return false;
        }
        self.stream().set_nonblocking(true).unwrap();
        let result = self.stream().peek(&mut [0]);
        self.stream().set_nonblocking(false).unwrap();
        result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Comes, talks and goes without pause until that is enough. Every line comes back. Returns
/// how often it came.
#[track_caller]
pub(crate) fn come_and_go(address: SocketAddr, peer: usize, enough: &AtomicBool) -> u64 {
    let mut round = 0;
    while !enough.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        for line in 0..10 {
            client.check_echo(format!("peer {peer} round {round} line {line}\n"));
        }
        client.finish_sending();
        client.expect_eof();
        round += 1;
    }
    round
}
