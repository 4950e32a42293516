//! The lines of the log between the threads that log and the one that writes.
//!
//! Nobody waits for the reader of standard error: a line that finds no room is
//! lost, counted, and said when there is room again. What waits is bounded in
//! bytes. Each service has a budget for its own lines and one for its guests'
//! output, so that neither a guest nor the peers of one service cost the others,
//! or the host, a line.
//!
//! The thread ends with the process. It may be in a write that never returns.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What the output of all guests may take, in bytes.
const GUESTS: usize = 2 << 20;
/// What the lines about all services may take.
const SERVICES: usize = 3 << 19;
/// What all other lines may take.
const HOST: usize = 1 << 19;
/// What a budget is at least, however many services share: more than a line.
const LEAST: usize = 1 << 16;
/// What a line takes besides its bytes.
const OVERHEAD: usize = 64;

/// How much is written at once. A pipe takes so much without a break, so that
/// processes which share it do not cut each other's lines.
const WRITE: usize = 4096;

/// How long the end of the process waits for a reader that takes nothing, and
/// how long for all lines.
const STALLED: Duration = Duration::from_secs(1);
const AT_THE_END: Duration = Duration::from_secs(5);

/// The target of the lines that say what was lost.
pub(crate) const TARGET: &str = "sockserve::log_queue";

/// The process's queue, if it has one.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    Host,
    /// About a service.
    Service(&'a str),
    /// Printed by a guest of a service.
    Guest(&'a str),
}

/// How many lines of a service and of its guests have been lost so far.
pub(crate) fn dropped(service: &str) -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped(service))
}

/// Puts a line that is no event of the log behind those that are. Returns the
/// line if the process has no queue.
pub(crate) fn say(line: String) -> Option<String> {
    let Some(queue) = QUEUE.get() else {
        return Some(line);
    };
    queue.push(Owner::Host, line);
    None
}

/// Starts the thread that writes to standard error.
pub(crate) fn start() -> io::Result<(Arc<Queue>, Flush)> {
    let queue = Arc::new(Queue::default());
    let writing = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("sockserve-log".to_owned())
        .spawn(move || writing.write_all())?;
    // A second one is for its caller only; the first keeps its place.
    let _ = QUEUE.set(Arc::clone(&queue));
    Ok((Arc::clone(&queue), Flush(queue)))
}

/// Waits, when it is dropped, until the lines that wait are written: for five
/// seconds at most, and no longer than one for a reader that takes nothing.
pub(crate) struct Flush(Arc<Queue>);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// A line has come.
    filled: Condvar,
    /// Lines have been written, or lost.
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    /// Never removed: one for each budget that was ever used.
    accounts: Vec<Account>,
    /// The thread writes, or says what was lost.
    busy: bool,
    /// Counts up with each write.
    writes: u64,
}

struct Line {
    text: String,
    account: usize,
}

struct Account {
    kind: Kind,
    /// Empty for the host's own.
    service: Box<str>,
    bytes: usize,
    /// Nothing gets in until half of the budget is free again, so that what is
    /// lost is a piece, and said once.
    full: bool,
    /// Lost since it was last said.
    unsaid: u64,
    lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Service,
    Guest,
}

/// What an account lost while it was full.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    service: Box<str>,
    guest: bool,
    lines: u64,
}

impl Owner<'_> {
    fn parts(&self) -> (Kind, &str) {
        match self {
            Self::Host => (Kind::Host, ""),
            Self::Service(service) => (Kind::Service, service),
            Self::Guest(service) => (Kind::Guest, service),
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, with its newline, or counts it as lost. Never waits.
    pub(crate) fn push(&self, owner: Owner<'_>, text: String) {
        if self.lock().push(owner, text) {
            self.filled.notify_one();
        }
    }

    fn dropped(&self, service: &str) -> u64 {
        let state = self.lock();
        let of_service = |account: &&Account| &*account.service == service;
        let accounts = state.accounts.iter().filter(of_service);
        accounts.map(|account| account.lost).sum()
    }

    /// Writes, for as long as the process lives.
    fn write_all(&self) {
        let mut bytes = Vec::with_capacity(WRITE);
        loop {
            let mut state = self.lock();
            while state.lines.is_empty() {
                let waiting = self.filled.wait(state);
                state = waiting.unwrap_or_else(PoisonError::into_inner);
            }
            bytes.clear();
            let charged = state.take(&mut bytes);
            drop(state);
            let written = write_to_stderr(&bytes).is_ok();
            let said = self.lock().settle(&charged, written);
            for lost in said {
                lost.say();
            }
            self.lock().busy = false;
            self.written.notify_all();
        }
    }

    fn flush(&self) {
        let began = Instant::now();
        let mut state = self.lock();
        let mut progress = (state.writes, began);
        while !state.lines.is_empty() || state.busy {
            if state.writes != progress.0 {
                progress = (state.writes, Instant::now());
            }
            let left = STALLED
                .saturating_sub(progress.1.elapsed())
                .min(AT_THE_END.saturating_sub(began.elapsed()));
            if left.is_zero() {
                return;
            }
            let waiting = self.written.wait_timeout(state, left);
            state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Says whether it was taken.
    fn push(&mut self, owner: Owner<'_>, text: String) -> bool {
        let index = self.account(owner);
        let cost = text.len() + OVERHEAD;
        let has_room = self.has_room(index, cost);
        let Some(account) = self.accounts.get_mut(index) else {
            return false;
        };
        if account.full || !has_room {
            account.full = true;
            account.unsaid += 1;
            account.lost += 1;
            return false;
        }
        account.bytes += cost;
        self.lines.push_back(Line {
            text,
            account: index,
        });
        true
    }

    fn account(&mut self, owner: Owner<'_>) -> usize {
        let (kind, service) = owner.parts();
        let known = |account: &Account| account.kind == kind && *account.service == *service;
        self.accounts.iter().position(known).unwrap_or_else(|| {
            self.accounts.push(Account {
                kind,
                service: service.into(),
                bytes: 0,
                full: false,
                unsaid: 0,
                lost: 0,
            });
            self.accounts.len() - 1
        })
    }

    fn has_room(&self, index: usize, cost: usize) -> bool {
        self.accounts.get(index).is_some_and(|account| {
            account.bytes + cost <= self.budget(account.kind)
                && self.taken(account.kind) + cost <= account.kind.pool()
        })
    }

    fn taken(&self, kind: Kind) -> usize {
        let of_kind = self.accounts.iter().filter(|it| it.kind == kind);
        of_kind.map(|it| it.bytes).sum()
    }

    /// One share is left over for a service that comes later.
    fn budget(&self, kind: Kind) -> usize {
        let sharing = self.accounts.iter().filter(|it| it.kind == kind).count();
        match kind {
            Kind::Host => HOST,
            Kind::Service | Kind::Guest => (kind.pool() / (sharing + 1)).max(LEAST),
        }
    }

    /// Moves as many lines to `bytes` as are written at once, and returns what
    /// each costs its account.
    fn take(&mut self, bytes: &mut Vec<u8>) -> Vec<(usize, usize)> {
        let mut charged = Vec::new();
        while let Some(line) = self.lines.front() {
            if !bytes.is_empty() && bytes.len() + line.text.len() > WRITE {
                break;
            }
            bytes.extend_from_slice(line.text.as_bytes());
            charged.push((line.account, line.text.len() + OVERHEAD));
            self.lines.pop_front();
        }
        self.busy = true;
        charged
    }

    /// Frees what was written, and returns what is to be said of lost lines.
    fn settle(&mut self, charged: &[(usize, usize)], written: bool) -> Vec<Lost> {
        for (index, cost) in charged {
            if let Some(account) = self.accounts.get_mut(*index) {
                account.bytes = account.bytes.saturating_sub(*cost);
                if !written {
                    account.lost += 1;
                    account.unsaid += 1;
                }
            }
        }
        self.writes += 1;
        if !written {
            // Nobody would hear it.
            return Vec::new();
        }
        let mut said = Vec::new();
        for kind in [Kind::Host, Kind::Service, Kind::Guest] {
            let budget = self.budget(kind);
            let has_room = self.taken(kind) <= kind.pool() / 4 * 3;
            for account in &mut self.accounts {
                let over = has_room && account.kind == kind && account.bytes <= budget / 2;
                if over && account.unsaid > 0 {
                    account.full = false;
                    said.push(Lost {
                        service: account.service.clone(),
                        guest: kind == Kind::Guest,
                        lines: std::mem::take(&mut account.unsaid),
                    });
                }
            }
        }
        said
    }
}

impl Kind {
    fn pool(self) -> usize {
        match self {
            Self::Host => HOST,
            Self::Service => SERVICES,
            Self::Guest => GUESTS,
        }
    }
}

impl Lost {
    fn say(&self) {
        let Self {
            service,
            guest,
            lines,
        } = self;
        let whose = if *guest {
            "of guests' output"
        } else {
            "of the log"
        };
        let text = format!("{lines} lines {whose} were dropped: standard error is read too slowly");
        if service.is_empty() {
            tracing::warn!(target: TARGET, lines, "{text}");
        } else {
            tracing::warn!(target: TARGET, service, lines, "{text}");
        }
    }
}

/// Without the lock of `std::io::stderr`: whoever else writes there must not
/// wait for a reader that stalls.
fn write_to_stderr(mut bytes: &[u8]) -> rustix::io::Result<()> {
    let stderr = io::stderr();
    let stderr = stderr.as_fd();
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process that has it made it non-blocking.
            Err(Errno::AGAIN) => {
                let mut waiting = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
                match poll(&mut waiting, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(length: usize) -> String {
        let mut line = "x".repeat(length - 1);
        line.push('\n');
        line
    }

    /// Pushes until nothing is taken, and says how many lines were.
    fn fill(state: &mut State, owner: Owner<'_>) -> usize {
        (0..100_000)
            .take_while(|_| state.push(owner, line(100)))
            .count()
    }

    fn bytes(state: &State) -> usize {
        state.accounts.iter().map(|account| account.bytes).sum()
    }

    /// Writes one piece, and returns what is said about lost lines.
    fn write(state: &mut State, written: bool) -> Vec<Lost> {
        let mut bytes = Vec::new();
        let charged = state.take(&mut bytes);
        state.settle(&charged, written)
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let mut state = State::default();
        for number in 0..100 {
            let service = format!("service-{number}");
            fill(&mut state, Owner::Guest(&service));
            fill(&mut state, Owner::Service(&service));
        }
        fill(&mut state, Owner::Host);
        assert!(bytes(&state) <= GUESTS + SERVICES + HOST);
        const { assert!(GUESTS + SERVICES + HOST <= 4 << 20) };
        let held: usize = state.lines.iter().map(|line| line.text.len()).sum();
        assert!(held <= 4 << 20, "{held}");
    }

    #[test]
    fn nobody_drowns_the_lines_of_others() {
        let mut state = State::default();
        assert!(fill(&mut state, Owner::Guest("loud")) > 1000);
        assert!(fill(&mut state, Owner::Service("loud")) > 1000);
        for owner in [Owner::Guest("quiet"), Owner::Service("quiet"), Owner::Host] {
            assert!(fill(&mut state, owner) > 1000, "{owner:?}");
        }
    }

    #[test]
    fn what_is_lost_is_counted_and_said_once() {
        let mut state = State::default();
        let taken = fill(&mut state, Owner::Guest("it"));
        // `fill` has lost one, too.
        for _ in 0..9 {
            assert!(!state.push(Owner::Guest("it"), line(100)));
        }
        let mut said = Vec::new();
        let mut writes = 0;
        while said.is_empty() {
            // Not a line of it gets in before that is said.
            assert!(!state.lines.is_empty());
            said = write(&mut state, true);
            writes += 1;
        }
        assert!(writes > 1);
        let expected = Lost {
            service: "it".into(),
            guest: true,
            lines: 10,
        };
        assert_eq!(said, [expected]);
        // About half of them still wait, and new ones are taken again.
        assert!(state.lines.len() > taken / 3);
        assert!(state.push(Owner::Guest("it"), line(100)));
        while !state.lines.is_empty() {
            assert_eq!(write(&mut state, true), []);
        }
        assert_eq!(bytes(&state), 0);
        assert_eq!(state.accounts[0].lost, 10);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let mut state = State::default();
        for _ in 0..5 {
            assert!(state.push(Owner::Host, line(1000)));
        }
        assert_eq!(write(&mut state, false), []);
        assert_eq!(state.accounts[0].lost, 4);
        assert_eq!(write(&mut state, false), []);
        assert_eq!(bytes(&state), 0);
        // Somebody reads again.
        assert!(state.push(Owner::Host, line(10)));
        let said = write(&mut state, true);
        assert_eq!(said.first().map(|lost| lost.lines), Some(5));
    }

    #[test]
    fn lines_stay_whole_and_in_order() {
        let mut state = State::default();
        let lengths = [10, 5000, 4000, 96, 1];
        for length in lengths {
            assert!(state.push(Owner::Host, line(length)));
        }
        let mut written = Vec::new();
        let mut bytes = Vec::new();
        while !state.lines.is_empty() {
            bytes.clear();
            let charged = state.take(&mut bytes);
            assert!(bytes.ends_with(b"\n"));
            written.push(bytes.len());
            state.settle(&charged, true);
        }
        assert_eq!(written, [10, 5000, 4096, 1]);
    }

    #[test]
    fn services_are_counted_apart() {
        let queue = Queue::default();
        let mut state = queue.lock();
        fill(&mut state, Owner::Guest("a"));
        fill(&mut state, Owner::Service("a"));
        fill(&mut state, Owner::Guest("b"));
        drop(state);
        assert_eq!(queue.dropped("a"), 2);
        assert_eq!(queue.dropped("b"), 1);
        assert_eq!(queue.dropped("c"), 0);
        assert_eq!(dropped("a"), 0);
    }
}
