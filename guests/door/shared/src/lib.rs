//! What the doors of all contracts share: whom they let in, what they do when something has
//! failed and from time to time, and what they answer.
//!
//! What is called is a line of the log, and is counted in the instance.

use sockserve_handler::{option_or_trap, trap};
use std::cell::RefCell;
use std::str::FromStr;
use std::time::Duration;

/// Longer than any deadline.
const TOO_LONG: Duration = Duration::from_secs(3600);

/// `VERIFY`: who may come in.
#[derive(Debug, Default, PartialEq, Eq)]
enum Who {
    /// Everybody.
    #[default]
    All,
    /// Peers with an even port.
    Even,
    /// Processes of this user.
    User(u32),
    /// Peers with an even port; about the others nobody finds out.
    Fault(Fault),
}

/// `ERROR` and `TICK`: what the call does after it was counted.
#[derive(Debug, Default, PartialEq, Eq)]
enum Then {
    /// Nothing.
    #[default]
    Return,
    Fault(Fault),
}

/// How a call does not return.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Trap,
    Wait,
}

impl Fault {
    fn commit(&self) {
        match self {
            Self::Trap => trap("a deliberate trap"),
            Self::Wait => std::thread::sleep(TOO_LONG),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trap" => Ok(Self::Trap),
            "wait" => Ok(Self::Wait),
            _ => Err("trap or wait".to_owned()),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "even" => Ok(Self::Even),
            _ => match text.strip_prefix("user:") {
                Some(user) => user.parse().map(Self::User).map_err(|it| it.to_string()),
                None => text.parse().map(Self::Fault),
            },
        }
    }
}

impl FromStr for Then {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Fault)
    }
}

/// `INTERVAL`: milliseconds between two ticks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interval(u64);

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse().map(Self);
        parsed.map_err(|_| "milliseconds".to_owned())
    }
}

/// What was called in this instance.
#[derive(Debug, Default)]
struct Counts {
    verified: u64,
    errors: u64,
    ticks: u64,
}

thread_local! {
    static COUNTS: RefCell<Counts> = RefCell::default();
}

/// Decides about a peer, by its port or its user.
pub fn verify(peer: &str, user: Option<u32>) -> Result<(), String> {
    println!("verify {peer}");
    COUNTS.with_borrow_mut(|counts| counts.verified += 1);
    match option_or_trap("VERIFY") {
        Who::All => Ok(()),
        Who::Even if has_even_port(peer) => Ok(()),
        Who::Even => Err("its port is odd".to_owned()),
        Who::User(wanted) if user == Some(wanted) => Ok(()),
        Who::User(_) => Err("another user".to_owned()),
        Who::Fault(_) if has_even_port(peer) => Ok(()),
        Who::Fault(fault) => {
            fault.commit();
            Ok(())
        }
    }
}

fn has_even_port(peer: &str) -> bool {
    let port = peer.rsplit(':').next().map(str::parse::<u16>);
    matches!(port, Some(Ok(port)) if port.is_multiple_of(2))
}

/// Counts a failure.
pub fn error(peer: &str, fault: &str, reason: &str) {
    println!("error of {peer} by {fault}: {reason}");
    COUNTS.with_borrow_mut(|counts| counts.errors += 1);
    if let Then::Fault(fault) = option_or_trap("ERROR") {
        fault.commit();
    }
}

/// Whether connections are independent of each other: the option `ROLLING` is set.
pub fn is_rolling() -> bool {
    std::env::var_os("ROLLING").is_some()
}

/// How much time is between two ticks.
pub fn interval() -> Duration {
    let Interval(milliseconds) = option_or_trap("INTERVAL");
    Duration::from_millis(milliseconds)
}

/// Counts a tick.
pub fn tick() {
    let ticks = COUNTS.with_borrow_mut(|counts| {
        counts.ticks += 1;
        counts.ticks
    });
    println!("tick {ticks}");
    if let Then::Fault(fault) = option_or_trap("TICK") {
        fault.commit();
    }
}

/// Answers a line. `counts` is answered by what was called in this instance, `fail` fails
/// the connection, and `trap` traps.
pub fn answer(line: &str) -> Result<String, String> {
    match line {
        "counts" => Ok(COUNTS.with_borrow(|counts| {
            let Counts {
                verified,
                errors,
                ticks,
            } = counts;
            format!("verified {verified} errors {errors} ticks {ticks}")
        })),
        "fail" => Err("asked to fail".to_owned()),
        "trap" => trap("asked to trap"),
        _ => Ok(line.to_owned()),
    }
}
