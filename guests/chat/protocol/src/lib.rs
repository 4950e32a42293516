//! The chat family: one room, in which every line that a member sends goes to
//! all others (C1 to C5).
//!
//! No I/O. The room holds what waits for each member up to a limit, and up to
//! another for all of them together; a shell carries it to the connections, says
//! how much has gone out, and reads no more while the room is rather full. What
//! the members see, and what happens to one that does not read, is all decided
//! here.

mod fill;
mod limits;
mod lines;
mod member;
mod queue;

use fill::Fill;
use lines::Lines;
use member::Member;
use queue::Queue;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

pub use fill::HoldId;
pub use limits::{QueueLimit, RoomLimit};
pub use member::MemberState;

/// What a newcomer reads first.
pub const WELCOME: &str = "You're connected to the sockserve chatserver\r\n";

/// How much a shell should read at once. It bounds what one read makes wait for
/// every member, as each line, however short, has its sender's address added.
pub const READ_LIMIT: usize = 1024;

/// How long a shell holds back at most, a second. Who reads has had its chance
/// then, and the rest may wait for peers that never will.
pub const PATIENCE_NANOSECONDS: u64 = 1_000_000_000;

/// Names a member. Chosen by the shell, and never used twice.
pub type MemberId = u64;

/// A chat room.
#[derive(Debug)]
pub struct Room {
    members: BTreeMap<MemberId, Member>,
    queue_limit: usize,
    /// What is in all queues together.
    fill: Fill,
    /// Bytes broadcast since the shell last asked whom to write to.
    burst: usize,
    waiting: Vec<MemberId>,
    dropped: Vec<MemberId>,
    log: Vec<String>,
}

impl Room {
    /// An empty room, in which so many bytes may wait for each member, and for all
    /// of them together.
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
        member.queue.push(WELCOME.as_bytes().into());
        self.fill.add(WELCOME.len());
        self.members.insert(id, member);
        self.waiting.push(id);
        self.broadcast(announcement.as_bytes(), id);
    }

    /// A member has sent a chunk: every line that is complete goes to all others.
    ///
    /// Stops after the line with which a [`hold`](Room::hold) begins, and says how
    /// much it has taken; the shell keeps the rest. At least one line is taken.
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

    /// A member has gone: what it left unfinished is sent, and all others are
    /// told.
    pub fn leave(&mut self, id: MemberId) {
        let Some(mut member) = self.remove(id) else {
            return;
        };
        if let Some(line) = member.lines.end() {
            let prefix = format!("[{}] ", member.name);
            self.broadcast(&[prefix.as_bytes(), &line].concat(), id);
        }
        self.broadcast(left(&member.name).as_bytes(), id);
    }

    /// Gives a member up to another room, which nobody is told.
    pub fn take(&mut self, id: MemberId) -> Option<MemberState> {
        self.remove(id).map(MemberState::from)
    }

    /// Takes a member on from another room, which nobody is told.
    ///
    /// What waits for it may be above the limits of this room; the next line decides
    /// what that costs.
    pub fn put(&mut self, id: MemberId, state: MemberState) {
        self.remove(id);
        let member = Member::from(state);
        self.fill.add(member.queue.len());
        if !member.queue.is_empty() {
            self.waiting.push(id);
        }
        self.members.insert(id, member);
    }

    /// Whether `id` is a member. One whose queue ran over no longer is.
    pub fn is_member(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Whether something waits for a member.
    pub fn has_pending(&self, id: MemberId) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| !member.queue.is_empty())
    }

    /// What waits for a member, at most `limit` bytes from the front.
    pub fn pending(&self, id: MemberId, limit: usize) -> Vec<u8> {
        self.members
            .get(&id)
            .map(|member| member.queue.front(limit))
            .unwrap_or_default()
    }

    /// So many bytes of what waited for a member have gone out.
    pub fn sent(&mut self, id: MemberId, count: usize) {
        if let Some(member) = self.members.get_mut(&id) {
            self.fill.remove(member.queue.consume(count));
        }
    }

    /// Whether so much was broadcast that the shell should write before it reads
    /// on, lest members that do read run over, or the room does.
    pub fn is_busy(&self) -> bool {
        self.burst > self.queue_limit / 4 || self.fill.is_tight() || self.hold().is_some()
    }

    /// While there is a hold the shell should write only, and read from nobody.
    ///
    /// One begins when more than half of the room's limit is taken, so that a burst
    /// of members who all read costs none of them its place, and ends when no more
    /// than a quarter is. [`end_hold`](Room::end_hold) ends it too.
    pub fn hold(&self) -> Option<HoldId> {
        self.fill.hold()
    }

    /// A hold has lasted for [`PATIENCE_NANOSECONDS`]. What waits still is for peers
    /// that do not read, and reading goes on: from now on half and a quarter are of
    /// what is left of the limit, and for the last eighth of it there are no holds.
    /// Whoever does not read has the longest queue when the limit decides. Nothing
    /// if `hold` is over.
    pub fn end_hold(&mut self, hold: HoldId) {
        self.fill.end_hold(hold);
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

    /// Queues a line for all members but its sender, and drops those whom a limit
    /// costs their place. That somebody was dropped is broadcast too and may cost
    /// others theirs, so this goes on until nobody more is dropped.
    fn broadcast(&mut self, line: &[u8], sender: MemberId) {
        let mut dropped = self.queue_for_all(line, Some(sender));
        while let Some(name) = dropped.pop_front() {
            dropped.extend(self.queue_for_all(left(&name).as_bytes(), None));
        }
    }

    /// Gives the names of those whom it has dropped.
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

    /// Drops members, the longest queue first, until a line of so many bytes may be
    /// queued for all that are left. Gives their names.
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

fn left(name: &str) -> String {
    format!("Client left {name}\r\n")
}

#[cfg(test)]
mod tests;
