//! An HTTP server for the files of a directory, as `python -m http.server` on the wire.
//!
//! There is no I/O here. The files come from a [`Store`], and the clock is a function that
//! the shell passes in. A file is read in pieces, each when the one before is written. So a
//! slow peer holds back the reading, and a connection never has more than a piece of a file
//! in memory.
//!
//! Requests that come before the answer to the one before are kept as bytes, and answered
//! in order.

mod hand_over;
mod listing;
mod request;
mod response;
mod store;
mod target;
mod types;

use request::{Head, Method, Request};
use response::{HTML, Status};
use sockserve_handler::session::{Output, Peer, Protocol, Session, Step};
use std::io;
use target::Target;
use time_protocol::imf_fixdate;

pub use hand_over::{BodyState, State};
pub use store::{Entry, Kind, Listing, Store};

/// How much of a file is read at once, and about how much output is queued at once.
const PIECE: usize = 64 * 1024;

/// The files that a directory is shown by, if it has one.
const INDEXES: [&str; 2] = ["index.html", "index.htm"];

/// How many characters of a target are logged.
const TARGET_SHOWN: usize = 200;

/// The server with its options set.
#[derive(Clone, Debug)]
pub struct HttpProtocol<S> {
    /// The files.
    pub store: S,
    /// Seconds since 1970 in UTC.
    pub clock: fn() -> u64,
}

impl<S: Store> Protocol for HttpProtocol<S> {
    type Session = Http<S>;
    const TAG: &'static str = "http/1";

    fn session(&self, peer: impl FnOnce() -> Result<Peer, String>) -> Result<Http<S>, String> {
        Ok(Http {
            store: self.store.clone(),
            clock: self.clock,
            peer: peer()?,
            unread: Vec::new(),
            skipped: 0,
            body: None,
        })
    }
}

/// One connection to the server.
#[derive(Debug)]
pub struct Http<S: Store> {
    store: S,
    clock: fn() -> u64,
    /// The peer, for the log.
    peer: Peer,
    /// Less than a head and a chunk.
    unread: Vec<u8>,
    skipped: u64,
    body: Option<(S::File, BodyState)>,
}

impl<S: Store> Session for Http<S> {
    fn read_limit(&self) -> usize {
        16 * 1024
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        let before = self.unread.len();
        self.unread.extend_from_slice(chunk);
        // A head that comes byte by byte is not read anew with each byte.
        let is_within = |limit| (before < limit) == (self.unread.len() < limit);
        let is_same_line = !chunk.contains(&b'\n')
            && is_within(request::LINE_LIMIT)
            && is_within(request::HEAD_LIMIT + 1);
        if is_same_line && self.skipped == 0 && self.body.is_none() {
            return Step::Continue;
        }
        self.advance(output)
    }

    fn add_more(&mut self, output: &mut Output) -> Step {
        self.advance(output)
    }
}

impl<S: Store> Http<S> {
    /// Queues about [`PIECE`] of output, if there is so much to answer.
    fn advance(&mut self, output: &mut Output) -> Step {
        while output.bytes.len() < PIECE {
            if self.body.is_some() {
                if self.send_piece(output) == Step::Close {
                    return Step::Close;
                }
                continue;
            }
            self.skip();
            self.skip_empty_lines();
            if self.unread.is_empty() {
                break;
            }
            let step = match Head::parse(&self.unread) {
                Head::Unfinished => break,
                Head::Wrong(status) => self.refuse_unread(status, output),
                Head::Complete(request, length) => {
                    self.unread.drain(..length);
                    self.skipped = request.body_length;
                    self.answer(&request, output)
                }
            };
            if step == Step::Close {
                return Step::Close;
            }
        }
        Step::Continue
    }

    /// Drops the body of a request. Nothing here has a use for one.
    fn skip(&mut self) {
        let skipped = usize::try_from(self.skipped).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.unread.len());
        self.unread.drain(..skipped);
        self.skipped -= skipped as u64;
    }

    /// Drops the empty lines before a request (RFC 9112, 2.2).
    fn skip_empty_lines(&mut self) {
        let is_empty = |line: &[u8]| line.starts_with(b"\n") || line.starts_with(b"\r\n");
        let mut start = 0;
        while let Some(rest) = self.unread.get(start..)
            && is_empty(rest)
        {
            start += if rest.starts_with(b"\n") { 1 } else { 2 };
        }
        self.unread.drain(..start);
    }

    /// Queues the next piece of the file that is being sent.
    fn send_piece(&mut self, output: &mut Output) -> Step {
        let Some((file, state)) = &mut self.body else {
            return Step::Continue;
        };
        let left = usize::try_from(state.length - state.offset).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(PIECE)];
        let count = match S::read(file, &mut piece) {
            // No other answer can follow one that is too short.
            Ok(0) => {
                let path = shown(&state.path);
                let line = format!("{} /{path} has become shorter while it was sent", self.peer);
                output.log.push(line);
                return Step::Close;
            }
            Ok(count) => count,
            Err(error) => {
                let path = shown(&state.path);
                output
                    .log
                    .push(format!("{} /{path}: {:?}", self.peer, error.kind()));
                return Step::Close;
            }
        };
        output.bytes.push(piece.get(..count).unwrap_or_default());
        state.offset += count as u64;
        if state.offset < state.length {
            return Step::Continue;
        }
        let closes = state.closes;
        self.body = None;
        if closes { Step::Close } else { Step::Continue }
    }

    fn answer(&mut self, request: &Request, output: &mut Output) -> Step {
        match request.method {
            Method::Get | Method::Head => {}
            Method::Other => return self.refuse(Status::MethodNotAllowed, request, "", output),
            Method::Unknown => return self.refuse(Status::NotImplemented, request, "", output),
        }
        let Some(target) = Target::parse(&request.target) else {
            return self.refuse(Status::BadRequest, request, "", output);
        };
        match self.find(request, &target, output) {
            Ok(step) => step,
            Err(error) => {
                let why = format!(": {:?}", error.kind());
                self.refuse(Status::NotFound, request, &why, output)
            }
        }
    }

    /// Answers what is at a target.
    fn find(
        &mut self,
        request: &Request,
        target: &Target,
        output: &mut Output,
    ) -> io::Result<Step> {
        let path = target.path.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let entry = self.store.look(path)?;
        match entry.kind {
            Kind::File if !target.is_directory => self.send(request, path, entry, output),
            Kind::File => Err(io::ErrorKind::NotADirectory.into()),
            Kind::Other => Err(io::ErrorKind::Unsupported.into()),
            Kind::Directory if !target.is_directory => {
                let location = ("Location", target.with_slash.as_str());
                let fields = [location, ("Content-Length", "0")];
                self.head(Status::MovedPermanently, request, &fields, output);
                Ok(ended(request))
            }
            Kind::Directory => {
                for index in INDEXES {
                    let path = match path.as_str() {
                        "" => index.to_owned(),
                        path => format!("{path}/{index}"),
                    };
                    match self.store.look(&path) {
                        Ok(entry) if entry.kind == Kind::File => {
                            return self.send(request, &path, entry, output);
                        }
                        _ => {}
                    }
                }
                let entries = self.store.list(path, listing::LIMIT + 1)?;
                let page = listing::page(&target.shown, entries);
                self.page(Status::Ok, request, &page, &[], output);
                Ok(ended(request))
            }
        }
    }

    /// Begins to send a file.
    fn send(
        &mut self,
        request: &Request,
        path: &str,
        entry: Entry,
        output: &mut Output,
    ) -> io::Result<Step> {
        let modified = imf_fixdate(entry.modified);
        let modified = ("Last-Modified", modified.as_str());
        if request
            .modified_since
            .is_some_and(|since| entry.modified <= since)
        {
            self.head(Status::NotModified, request, &[modified], output);
            return Ok(ended(request));
        }
        // Before anything is promised.
        let file = self.store.open(path, 0)?;
        let length = entry.length.to_string();
        let fields = [
            ("Content-Type", types::content_type(path)),
            ("Content-Length", length.as_str()),
            modified,
        ];
        self.head(Status::Ok, request, &fields, output);
        if request.method == Method::Head || entry.length == 0 {
            return Ok(ended(request));
        }
        let state = BodyState {
            path: path.to_owned(),
            offset: 0,
            length: entry.length,
            modified: entry.modified,
            closes: request.closes,
        };
        self.body = Some((file, state));
        Ok(Step::Continue)
    }

    /// Answers a request by an error, and logs that.
    fn refuse(
        &mut self,
        status: Status,
        request: &Request,
        why: &str,
        output: &mut Output,
    ) -> Step {
        let target = shown(&request.target);
        let line = format!("{} {} {target}{why}", self.peer, status.code());
        output.log.push(line);
        let allow = [("Allow", "GET, HEAD")];
        let fields = match status {
            Status::MethodNotAllowed => allow.as_slice(),
            _ => &[],
        };
        self.page(status, request, &status.page(), fields, output);
        ended(request)
    }

    /// Answers something that is no request. Nobody knows where the next one begins.
    fn refuse_unread(&mut self, status: Status, output: &mut Output) -> Step {
        let text = String::from_utf8_lossy(&self.unread);
        let line = text.trim_start().lines().next().unwrap_or_default();
        let line = format!("{} {} {}", self.peer, status.code(), shown(line));
        output.log.push(line);
        self.unread.clear();
        let request = Request {
            method: Method::Get,
            target: String::new(),
            closes: true,
            body_length: 0,
            modified_since: None,
        };
        self.page(status, &request, &status.page(), &[], output);
        Step::Close
    }

    /// Queues an answer with a page that is made here.
    fn page(
        &self,
        status: Status,
        request: &Request,
        page: &str,
        fields: &[(&str, &str)],
        output: &mut Output,
    ) {
        let length = page.len().to_string();
        let own = [("Content-Type", HTML), ("Content-Length", length.as_str())];
        self.head(status, request, &[&own, fields].concat(), output);
        if request.method != Method::Head {
            output.bytes.push(page.as_bytes());
        }
    }

    fn head(
        &self,
        status: Status,
        request: &Request,
        fields: &[(&str, &str)],
        output: &mut Output,
    ) {
        let now = (self.clock)();
        response::head(&mut output.bytes, status, now, request.closes, fields);
    }
}

/// What follows a whole answer.
fn ended(request: &Request) -> Step {
    if request.closes {
        Step::Close
    } else {
        Step::Continue
    }
}

/// Text of a peer, as one line of the log has it.
fn shown(text: &str) -> String {
    text.escape_debug().take(TARGET_SHOWN).collect()
}

#[cfg(test)]
mod tests;
