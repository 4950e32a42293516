//! The waiting lines, and the budgets that they are charged to.

use super::TARGET;
use std::collections::VecDeque;

/// The most bytes of guest output, all services together.
const GUESTS: usize = 2 << 20;
/// The most bytes of lines about services, all services together.
const SERVICES: usize = 3 << 19;
/// The most bytes of all other lines.
const HOST: usize = 1 << 19;
/// The smallest budget, even if many services share: more than one line.
const MIN_BUDGET: usize = 1 << 16;
/// What a line costs besides its bytes.
const OVERHEAD: usize = 64;

/// How many bytes are written at once. A pipe takes this much in one piece, so that
/// processes that share a pipe do not cut each other's lines.
pub(super) const WRITE: usize = 4096;

/// The owner of a line, whose budget it is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    Host,
    /// A line about a service.
    Service(&'a str),
    /// A line that a guest of a service printed.
    Guest(&'a str),
}

#[derive(Default)]
pub(super) struct Lines {
    lines: VecDeque<Line>,
    /// One account for each budget that was ever used. Accounts are never removed.
    accounts: Vec<Account>,
    /// The thread is writing, or reporting lost lines.
    pub(super) busy: bool,
    /// How many writes there were.
    pub(super) writes: u64,
}

/// One waiting line.
struct Line {
    text: String,
    account: usize,
}

/// The budget of one owner, and what it has lost.
struct Account {
    kind: Kind,
    /// The service's name; empty for the host.
    service: Box<str>,
    /// What its waiting lines cost.
    bytes: usize,
    /// No line is taken until half of the budget is free again. So lines are lost
    /// in one stretch, and are reported once.
    full: bool,
    /// Lines lost since the last report.
    unreported: u64,
    /// All lines that were ever lost.
    lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Service,
    Guest,
}

/// The lines that an account lost while it was full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
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

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns how many lines about a service and from its guests have been lost.
    pub(super) fn lines_dropped(&self, service: &str) -> u64 {
        let of_service = |account: &&Account| &*account.service == service;
        let accounts = self.accounts.iter().filter(of_service);
        accounts.map(|account| account.lost).sum()
    }

    /// Adds a line, or counts it as lost. Returns whether it was added.
    pub(super) fn push(&mut self, owner: Owner<'_>, text: String) -> bool {
        let index = self.account(owner);
        let cost = text.len() + OVERHEAD;
        let has_room = self.has_room(index, cost);
        let Some(account) = self.accounts.get_mut(index) else {
            return false;
        };
        if account.full || !has_room {
            account.full = true;
            account.unreported += 1;
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

    /// Returns the index of an owner's account, which is made at its first line.
    fn account(&mut self, owner: Owner<'_>) -> usize {
        let (kind, service) = owner.parts();
        let known = |account: &Account| account.kind == kind && *account.service == *service;
        self.accounts.iter().position(known).unwrap_or_else(|| {
            self.accounts.push(Account {
                kind,
                service: service.into(),
                bytes: 0,
                full: false,
                unreported: 0,
                lost: 0,
            });
            self.accounts.len() - 1
        })
    }

    /// Whether a line of this cost fits into the account's budget and the pool.
    fn has_room(&self, index: usize, cost: usize) -> bool {
        self.accounts.get(index).is_some_and(|account| {
            account.bytes + cost <= self.budget(account.kind)
                && self.taken(account.kind) + cost <= account.kind.pool()
        })
    }

    /// Returns the bytes that all accounts of a kind hold.
    fn taken(&self, kind: Kind) -> usize {
        let of_kind = self.accounts.iter().filter(|it| it.kind == kind);
        of_kind.map(|it| it.bytes).sum()
    }

    /// Returns the budget of one account. One share stays free for a service that
    /// comes later.
    fn budget(&self, kind: Kind) -> usize {
        let sharing = self.accounts.iter().filter(|it| it.kind == kind).count();
        match kind {
            Kind::Host => HOST,
            Kind::Service | Kind::Guest => (kind.pool() / (sharing + 1)).max(MIN_BUDGET),
        }
    }

    /// Moves the lines of one write to `bytes`. Returns the account and the cost of
    /// each line.
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>) -> Vec<(usize, usize)> {
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

    /// Gives the budget of written lines back. Returns the losses to report.
    pub(super) fn settle(&mut self, charged: &[(usize, usize)], written: bool) -> Vec<Lost> {
        for (index, cost) in charged {
            if let Some(account) = self.accounts.get_mut(*index) {
                account.bytes = account.bytes.saturating_sub(*cost);
                if !written {
                    account.lost += 1;
                    account.unreported += 1;
                }
            }
        }
        self.writes += 1;
        if !written {
            // Standard error has no reader, so a report would be lost too.
            return Vec::new();
        }
        let mut said = Vec::new();
        for kind in [Kind::Host, Kind::Service, Kind::Guest] {
            let budget = self.budget(kind);
            let has_room = self.taken(kind) <= kind.pool() / 4 * 3;
            for account in &mut self.accounts {
                let over = has_room && account.kind == kind && account.bytes <= budget / 2;
                if over && account.unreported > 0 {
                    account.full = false;
                    said.push(Lost {
                        service: account.service.clone(),
                        guest: kind == Kind::Guest,
                        lines: std::mem::take(&mut account.unreported),
                    });
                }
            }
        }
        said
    }
}

impl Kind {
    /// Returns the bytes that all accounts of this kind share.
    fn pool(self) -> usize {
        match self {
            Self::Host => HOST,
            Self::Service => SERVICES,
            Self::Guest => GUESTS,
        }
    }
}

impl Lost {
    /// Logs how many lines were lost.
    pub(super) fn report(&self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(length: usize) -> String {
        let mut line = "x".repeat(length - 1);
        line.push('\n');
        line
    }

    /// Pushes until a line is refused. Returns how many were taken.
    fn fill(lines: &mut Lines, owner: Owner<'_>) -> usize {
        (0..100_000)
            .take_while(|_| lines.push(owner, line(100)))
            .count()
    }

    fn bytes(lines: &Lines) -> usize {
        lines.accounts.iter().map(|account| account.bytes).sum()
    }

    /// Writes one piece, and returns what is reported about lost lines.
    fn write(lines: &mut Lines, written: bool) -> Vec<Lost> {
        let mut bytes = Vec::new();
        let charged = lines.take(&mut bytes);
        lines.settle(&charged, written)
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let mut lines = Lines::default();
        for number in 0..100 {
            let service = format!("service-{number}");
            fill(&mut lines, Owner::Guest(&service));
            fill(&mut lines, Owner::Service(&service));
        }
        fill(&mut lines, Owner::Host);
        assert!(bytes(&lines) <= GUESTS + SERVICES + HOST);
        const { assert!(GUESTS + SERVICES + HOST <= 4 << 20) };
        let held: usize = lines.lines.iter().map(|line| line.text.len()).sum();
        assert!(held <= 4 << 20, "{held}");
    }

    #[test]
    fn nobody_drowns_the_lines_of_others() {
        let mut lines = Lines::default();
        assert!(fill(&mut lines, Owner::Guest("loud")) > 1000);
        assert!(fill(&mut lines, Owner::Service("loud")) > 1000);
        for owner in [Owner::Guest("quiet"), Owner::Service("quiet"), Owner::Host] {
            assert!(fill(&mut lines, owner) > 1000, "{owner:?}");
        }
    }

    #[test]
    fn what_is_lost_is_counted_and_said_once() {
        let mut lines = Lines::default();
        let taken = fill(&mut lines, Owner::Guest("it"));
        // `fill` has lost one line, too.
        for _ in 0..9 {
            assert!(!lines.push(Owner::Guest("it"), line(100)));
        }
        let mut said = Vec::new();
        let mut writes = 0;
        while said.is_empty() {
            // No line of this guest is taken before the report.
            assert!(!lines.lines.is_empty());
            said = write(&mut lines, true);
            writes += 1;
        }
        assert!(writes > 1);
        let expected = Lost {
            service: "it".into(),
            guest: true,
            lines: 10,
        };
        assert_eq!(said, [expected]);
        // About half of the lines still wait, and new ones are taken again.
        assert!(lines.lines.len() > taken / 3);
        assert!(lines.push(Owner::Guest("it"), line(100)));
        while !lines.lines.is_empty() {
            assert_eq!(write(&mut lines, true), []);
        }
        assert_eq!(bytes(&lines), 0);
        assert_eq!(lines.accounts[0].lost, 10);
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let mut lines = Lines::default();
        for _ in 0..5 {
            assert!(lines.push(Owner::Host, line(1000)));
        }
        assert_eq!(write(&mut lines, false), []);
        assert_eq!(lines.accounts[0].lost, 4);
        assert_eq!(write(&mut lines, false), []);
        assert_eq!(bytes(&lines), 0);
        // The reader is back.
        assert!(lines.push(Owner::Host, line(10)));
        let said = write(&mut lines, true);
        assert_eq!(said.first().map(|lost| lost.lines), Some(5));
    }

    #[test]
    fn lines_stay_whole_and_in_order() {
        let mut lines = Lines::default();
        let lengths = [10, 5000, 4000, 96, 1];
        for length in lengths {
            assert!(lines.push(Owner::Host, line(length)));
        }
        let mut written = Vec::new();
        let mut bytes = Vec::new();
        while !lines.lines.is_empty() {
            bytes.clear();
            let charged = lines.take(&mut bytes);
            assert!(bytes.ends_with(b"\n"));
            written.push(bytes.len());
            lines.settle(&charged, true);
        }
        assert_eq!(written, [10, 5000, 4096, 1]);
    }

    #[test]
    fn services_are_counted_apart() {
        let mut lines = Lines::default();
        fill(&mut lines, Owner::Guest("a"));
        fill(&mut lines, Owner::Service("a"));
        fill(&mut lines, Owner::Guest("b"));
        assert_eq!(lines.lines_dropped("a"), 2);
        assert_eq!(lines.lines_dropped("b"), 1);
        assert_eq!(lines.lines_dropped("c"), 0);
        // The process of the tests has no queue.
        assert_eq!(crate::log_queue::lines_dropped("a"), 0);
    }
}
