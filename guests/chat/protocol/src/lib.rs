//! The chat family: one room, in which every line that a member sends goes to all other
//! members.
//!
//! There is no I/O here. The room has a queue of bytes for each member. There is a limit
//! for each queue, and one for all queues together. A shell writes the queues to the
//! connections, says how much it has written, and stops reading while the room is more
//! than half full. The room decides everything else: what the members see, and what
//! happens to a member that does not read.

mod fill;
mod limits;
mod lines;
mod member;
mod queue;

use fill::Fill;
use lines::Lines;
use member::Member;
use queue::Queue;
use sockserve_handler::session::Peer;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub use fill::HoldId;
pub use limits::{QueueLimit, RoomLimit};
pub use member::MemberState;

/// What a new member reads first.
pub const WELCOME: &str = "You're connected to the sockserve chatserver\r\n";

/// The most bytes that a shell should read at once. It bounds how much one read adds to
/// every queue: even a short line gets its sender's address in front.
pub const READ_LIMIT: usize = 1024;

/// The longest time that a shell stops reading for a hold: one second. Members that read
/// have had enough time by then. What is still queued may be for members that never
/// read.
pub const PATIENCE_NANOSECONDS: u64 = 1_000_000_000;

/// Identifies a member. The shell chooses it, and never uses one twice.
pub type MemberId = u64;

/// A chat room.
#[derive(Debug)]
pub struct Room {
    members: BTreeMap<MemberId, Member>,
    queue_limit: usize,
    /// How much is in all queues together.
    fill: Fill,
    /// Bytes that were broadcast since the last [`take_waiting`](Room::take_waiting).
    burst: usize,
    waiting: Vec<MemberId>,
    dropped: Vec<MemberId>,
    log: Vec<String>,
}

impl Room {
    /// An empty room with a limit for each member's queue, and one for all queues
    /// together.
    pub fn new(queue_limit: QueueLimit, room_limit: RoomLimit) -> Self {
        Self {
            members: BTreeMap::new(),
            queue_limit: queue_limit.0,
            fill: Fill::new(room_limit.0),
            burst: 0,
            waiting: Vec::new(),
            dropped: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Adds a new member. It is welcomed, and the others are told.
    pub fn join(&mut self, id: MemberId, peer: Peer) {
        let mut member = Member {
            name: peer.to_string(),
            lines: Lines::default(),
            queue: Queue::default(),
        };
        let announcement = format!("Client joined {}\r\n", member.name);
        // The welcome may exceed the limit: the member has had no time to read yet.
        member.queue.push(WELCOME.as_bytes().into());
        self.fill.add(WELCOME.len());
        self.members.insert(id, member);
        self.waiting.push(id);
        self.broadcast(announcement.as_bytes(), id);
    }

    /// Takes a chunk that a member has sent. Every line that is complete goes to all
    /// others.
    ///
    /// Stops after the line with which a [`hold`](Room::hold) begins. Returns how many
    /// bytes it has taken; the shell keeps the rest. It takes at least one line.
    pub fn receive(&mut self, id: MemberId, chunk: &[u8]) -> usize {
        let mut taken = 0;
        for part in chunk.split_inclusive(|&byte| byte == b'\n') {
            if taken > 0 && self.hold().is_some() {
                return taken;
            }
            taken += part.len();
            let Some(member) = self.members.get_mut(&id) else {
                return chunk.len();
            };
            let lines = member.lines.feed(part);
            if lines.is_empty() {
                continue;
            }
            let prefix = format!("[{}] ", member.name);
            for line in lines {
                if !self.is_member(id) {
                    break;
                }
                self.broadcast(&[prefix.as_bytes(), &line].concat(), id);
            }
        }
        taken
    }

    /// Removes a member that has gone. Its unfinished line is sent, and the others are
    /// told.
    pub fn leave(&mut self, id: MemberId) {
        let Some(mut member) = self.remove(id) else {
            return;
        };
        if let Some(line) = member.lines.end() {
            let prefix = format!("[{}] ", member.name);
            self.broadcast(&[prefix.as_bytes(), &line].concat(), id);
        }
        self.broadcast(leave_notice(&member.name).as_bytes(), id);
    }

    /// Removes a member that moves to another room. The others are not told.
    pub fn take(&mut self, id: MemberId) -> Option<MemberState> {
        self.remove(id).map(MemberState::from)
    }

    /// Adds a member that comes from another room. The others are not told.
    ///
    /// Its queue may be longer than the limits of this room allow. They apply when the
    /// next line is broadcast.
    pub fn put(&mut self, id: MemberId, state: MemberState) {
        self.remove(id);
        let member = Member::from(state);
        self.fill.add(member.queue.len());
        if !member.queue.is_empty() {
            self.waiting.push(id);
        }
        self.members.insert(id, member);
    }

    /// Whether `id` is a member. A member that was dropped is none.
    pub fn is_member(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Whether a member's queue holds anything.
    pub fn has_pending(&self, id: MemberId) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| !member.queue.is_empty())
    }

    /// The bytes at the front of a member's queue, at most `limit` of them.
    pub fn pending(&self, id: MemberId, limit: usize) -> Vec<u8> {
        self.members
            .get(&id)
            .map(|member| member.queue.front(limit))
            .unwrap_or_default()
    }

    /// Removes bytes from the front of a member's queue, which were written to it.
    pub fn consume(&mut self, id: MemberId, count: usize) {
        if let Some(member) = self.members.get_mut(&id) {
            self.fill.remove(member.queue.consume(count));
        }
    }

    /// Whether so much was broadcast that the shell should write before it reads more.
    /// Otherwise the queues of members that do read could exceed a limit.
    pub fn is_busy(&self) -> bool {
        self.burst > self.queue_limit / 4 || self.fill.is_tight() || self.hold().is_some()
    }

    /// The present hold, if there is one. During a hold the shell should only write, and
    /// read from no member.
    ///
    /// A hold begins when more than half of the room's limit is queued. So a burst among
    /// members that all read drops none of them. The hold ends when a quarter or less is
    /// queued, and by [`end_hold`](Room::end_hold).
    pub fn hold(&self) -> Option<HoldId> {
        self.fill.hold()
    }

    /// Ends a hold that has lasted for [`PATIENCE_NANOSECONDS`], so that the shell reads
    /// again. Does nothing if `hold` is over.
    ///
    /// The bytes that are still queued count as stuck: they are for members that do not
    /// read. The two thresholds, a half and a quarter, then apply to the rest of the
    /// limit. When an eighth of the limit or less is left, there are no more holds, and
    /// the limit drops the member with the longest queue, which is one that does not
    /// read.
    pub fn end_hold(&mut self, hold: HoldId) {
        self.fill.end_hold(hold);
    }

    /// The members whose queues were empty and got something since the last call.
    pub fn take_waiting(&mut self) -> Vec<MemberId> {
        self.burst = 0;
        std::mem::take(&mut self.waiting)
    }

    /// The members that were dropped since the last call. They are no longer in the room,
    /// and the shell has to close their connections.
    pub fn take_dropped(&mut self) -> Vec<MemberId> {
        std::mem::take(&mut self.dropped)
    }

    /// The lines that were broadcast since the last call, without their line endings.
    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Queues a line for all members but its sender, and drops members for the limits.
    /// Each drop is broadcast too, which may drop more members, so this repeats until no
    /// more are dropped.
    fn broadcast(&mut self, line: &[u8], sender: MemberId) {
        let mut dropped = self.queue_for_all(line, Some(sender));
        while let Some(name) = dropped.pop_front() {
            dropped.extend(self.queue_for_all(leave_notice(&name).as_bytes(), None));
        }
    }

    /// Returns the names of the members that it has dropped.
    fn queue_for_all(&mut self, line: &[u8], but: Option<MemberId>) -> VecDeque<String> {
        let text = String::from_utf8_lossy(line);
        self.log
            .push(text.trim_end_matches(['\r', '\n']).to_owned());
        self.burst += line.len();
        let mut dropped = self.make_room(line.len(), but);
        let line: Rc<[u8]> = line.into();
        self.members.retain(|&id, member| {
            if Some(id) == but {
                return true;
            }
            let queued = member.queue.len();
            if queued + line.len() > self.queue_limit {
                self.fill.remove(queued);
                self.dropped.push(id);
                dropped.push_back(std::mem::take(&mut member.name));
                return false;
            }
            if queued == 0 {
                self.waiting.push(id);
            }
            member.queue.push(line.clone());
            self.fill.add(line.len());
            true
        });
        dropped
    }

    /// Drops members, the one with the longest queue first, until a line of `length` bytes
    /// can be queued for all that are left. Returns their names.
    fn make_room(&mut self, length: usize, but: Option<MemberId>) -> VecDeque<String> {
        let mut dropped = VecDeque::new();
        loop {
            let sender = but.is_some_and(|id| self.is_member(id));
            let receivers = self.members.len() - usize::from(sender);
            if self.fill.fits(length.saturating_mul(receivers)) {
                return dropped;
            }
            let queues = self.members.iter();
            let longest = queues.max_by_key(|(_, member)| member.queue.len());
            let Some((&id, _)) = longest else {
                return dropped;
            };
            self.dropped.push(id);
            dropped.extend(self.remove(id).map(|member| member.name));
        }
    }

    fn remove(&mut self, id: MemberId) -> Option<Member> {
        let member = self.members.remove(&id)?;
        self.fill.remove(member.queue.len());
        Some(member)
    }
}

fn leave_notice(name: &str) -> String {
    format!("Client left {name}\r\n")
}

#[cfg(test)]
mod tests;
