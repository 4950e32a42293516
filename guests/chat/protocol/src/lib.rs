//! The chat family: one room, in which every line that a member sends goes to
//! all others (C1 to C5).
//!
//! No I/O. The room holds what waits for each member up to a limit; a shell
//! carries it to the connection and says how much has gone out. What the members
//! see, and what happens to one that does not read, is all decided here.

mod lines;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::str::FromStr;

use protocol::Queue;

use lines::Lines;

/// What a newcomer reads first.
pub const WELCOME: &str = "You're connected to the sockserve chatserver\r\n";

/// How much a shell should read at once. It bounds what one read makes wait for
/// every member, as each line, however short, has its sender's address added.
pub const READ_LIMIT: usize = 1024;

/// How many bytes may begin to wait for all members together before a shell should
/// write. Ten thousand members with a small share each are a lot of memory.
const BURST_LIMIT: usize = 16 * 1024 * 1024;

/// The option `QUEUE_LIMIT`: how many bytes may wait for one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimit(usize);

impl Default for QueueLimit {
    fn default() -> QueueLimit {
        QueueLimit(256 * 1024)
    }
}

impl FromStr for QueueLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<QueueLimit, String> {
        match text.parse() {
            Ok(limit) if limit > 0 => Ok(QueueLimit(limit)),
            _ => Err("a number of bytes of at least 1".to_owned()),
        }
    }
}

/// Names a member. Chosen by the shell, and never used twice.
pub type MemberId = u64;

/// A chat room.
#[derive(Debug)]
pub struct Room {
    members: BTreeMap<MemberId, Member>,
    queue_limit: usize,
    /// Bytes broadcast since the shell last asked whom to write to.
    burst: usize,
    waiting: Vec<MemberId>,
    dropped: Vec<MemberId>,
    log: Vec<String>,
}

#[derive(Debug)]
struct Member {
    /// `HOST:PORT`.
    name: String,
    lines: Lines,
    queue: Queue,
}

impl Room {
    /// An empty room, in which at most `limit` bytes wait for each member.
    pub fn new(limit: QueueLimit) -> Room {
        Room {
            members: BTreeMap::new(),
            queue_limit: limit.0,
            burst: 0,
            waiting: Vec::new(),
            dropped: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Somebody has connected: is welcomed, and announced to all others.
    pub fn join(&mut self, id: MemberId, peer: SocketAddr) {
        let mut member = Member {
            name: peer.to_string(),
            lines: Lines::default(),
            queue: Queue::default(),
        };
        let announcement = format!("Client joined {}\r\n", member.name);
        // The welcome goes out whatever the limit is, which is for those who
        // have had time to read.
        member.queue.push(WELCOME.as_bytes());
        self.members.insert(id, member);
        self.waiting.push(id);
        self.broadcast(announcement.as_bytes(), id);
    }

    /// A member has sent a chunk: every line that is complete goes to all others.
    pub fn receive(&mut self, id: MemberId, chunk: &[u8]) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let prefix = format!("[{}] ", member.name);
        for line in member.lines.feed(chunk) {
            if !self.is_member(id) {
                break;
            }
            self.broadcast(&[prefix.as_bytes(), &line].concat(), id);
        }
    }

    /// A member has gone: what it left unfinished is sent, and all others are
    /// told.
    pub fn leave(&mut self, id: MemberId) {
        let Some(mut member) = self.members.remove(&id) else {
            return;
        };
        if let Some(line) = member.lines.end() {
            let prefix = format!("[{}] ", member.name);
            self.broadcast(&[prefix.as_bytes(), &line].concat(), id);
        }
        self.broadcast(left(&member.name).as_bytes(), id);
    }

    /// Whether `id` is a member. One whose queue ran over no longer is.
    pub fn is_member(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// What waits for a member, at most `limit` bytes from the front.
    pub fn pending(&self, id: MemberId, limit: usize) -> &[u8] {
        self.members
            .get(&id)
            .map(|member| member.queue.front(limit))
            .unwrap_or_default()
    }

    /// So many bytes of what waited for a member have gone out.
    pub fn sent(&mut self, id: MemberId, count: usize) {
        if let Some(member) = self.members.get_mut(&id) {
            member.queue.consume(count);
        }
    }

    /// Whether so much was broadcast that the shell should write before it reads
    /// on, lest members that do read run over, or the queues fill the memory.
    pub fn is_busy(&self) -> bool {
        self.burst > self.queue_limit / 4
            || self.burst.saturating_mul(self.members.len()) > BURST_LIMIT
    }

    /// The members for whom something began to wait since the last call.
    pub fn take_waiting(&mut self) -> Vec<MemberId> {
        self.burst = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Those who were dropped since the last call. They are no longer members,
    /// and their connections are to be closed.
    pub fn take_dropped(&mut self) -> Vec<MemberId> {
        std::mem::take(&mut self.dropped)
    }

    /// The lines broadcast since the last call, without their line endings.
    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Queues a line for all members but its sender, and drops those whose queue
    /// would run over. That somebody was dropped is broadcast too and may cost
    /// others their place, so this goes on until nobody more is dropped.
    fn broadcast(&mut self, line: &[u8], sender: MemberId) {
        let mut dropped = self.queue_for_all(line, Some(sender));
        while let Some(name) = dropped.pop_front() {
            dropped.extend(self.queue_for_all(left(&name).as_bytes(), None));
        }
    }

    /// Gives the names of those whose queue would have run over.
    fn queue_for_all(&mut self, line: &[u8], but: Option<MemberId>) -> VecDeque<String> {
        let mut dropped = VecDeque::new();
        let text = String::from_utf8_lossy(line);
        self.log
            .push(text.trim_end_matches(['\r', '\n']).to_owned());
        self.burst += line.len();
        self.members.retain(|&id, member| {
            if Some(id) == but {
                return true;
            }
            if member.queue.len() + line.len() > self.queue_limit {
                self.dropped.push(id);
                dropped.push_back(std::mem::take(&mut member.name));
                return false;
            }
            if member.queue.is_empty() {
                self.waiting.push(id);
            }
            member.queue.push(line);
            true
        });
        dropped
    }
}

fn left(name: &str) -> String {
    format!("Client left {name}\r\n")
}

#[cfg(test)]
mod tests;
