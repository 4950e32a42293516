//! Ends connections whose time is over.
//!
//! A task per service looks at the records of its open connections when the first of them
//! may be due. Nothing is done per byte and no timer is kept per connection. A time-out
//! never ends a connection early; it may end it late by a thirty-second of the shortest
//! time-out, at least 10 ms and at most a second.

use super::Shared;
use crate::connection::record::{Cut, Moment, Record};
use crate::limits::Limits;
use std::convert::Infallible;
use std::time::Duration;

/// The time-outs of connections. `None` is none.
#[derive(Clone, Copy)]
struct Timeouts {
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    write: Option<Duration>,
    whole: Option<Duration>,
}

impl Timeouts {
    fn of(limits: &Limits) -> Self {
        Self {
            first_byte: limits.first_byte_timeout,
            idle: limits.idle_timeout,
            write: limits.write_timeout,
            whole: limits.connection_timeout,
        }
    }

    /// The shortest of them. A connection that comes later is not due before that.
    fn shortest(self) -> Option<Duration> {
        let all = [self.first_byte, self.idle, self.write, self.whole];
        all.into_iter().flatten().min()
    }

    /// Which of them are over for a connection, or when the next one will be.
    fn judge(self, record: &Record, now: Moment) -> Result<Option<Moment>, Cut> {
        if record.is_closing() {
            return Ok(None);
        }
        let mut next: Option<Moment> = None;
        let first_byte = self.first_byte.filter(|_| record.bytes_in() == 0);
        let checks = [
            (
                first_byte,
                Some(record.opened()),
                Cut::FirstByte as fn(Duration) -> Cut,
            ),
            (self.idle, Some(record.active()), Cut::Idle),
            (self.write, record.stalled(), Cut::Write),
            (self.whole, Some(record.opened()), Cut::Whole),
        ];
        for (timeout, begin, cut) in checks {
            let (Some(timeout), Some(begin)) = (timeout, begin) else {
                continue;
            };
            // The clock may be late by a tick, so exactly the time-out is too early.
            if now.since(begin) > timeout + TICK {
                return Err(cut(timeout));
            }
            let due = begin.after(timeout + TICK);
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        Ok(next)
    }
}

/// How late the clock of the records may be.
const TICK: Duration = Duration::from_millis(10);
/// The finest step in which connections are looked at.
const FINEST: Duration = Duration::from_millis(10);
/// The coarsest one.
const COARSEST: Duration = Duration::from_secs(1);

impl Shared {
    /// Ends connections whose time is over, for as long as the service lives. Never
    /// returns.
    pub(super) async fn enforce_timeouts(&self) -> Infallible {
        let versions = &self.versions;
        loop {
            let timeouts = Timeouts::of(&versions.limits());
            let waiting = async {
                match timeouts.shortest() {
                    Some(shortest) => {
                        tokio::time::sleep(self.end_overdue(timeouts, shortest)).await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waiting => {}
                () = versions.limits_changed() => {}
            }
        }
    }

    /// Ends the connections whose time is over. Returns how long none of the others can be
    /// due, and none that comes.
    fn end_overdue(&self, timeouts: Timeouts, shortest: Duration) -> Duration {
        let now = Moment::now();
        let mut wait = shortest;
        let mut overdue = Vec::new();
        self.versions
            .roll
            .for_each(|record| match timeouts.judge(record, now) {
                Ok(Some(due)) => wait = wait.min(due.since(now)),
                Ok(None) => {}
                Err(cut) => overdue.push((record.id, cut)),
            });
        // Not under the roll's lock.
        for (id, cut) in overdue {
            if let Some(record) = self.versions.roll.find(id) {
                record.end(cut);
            }
        }
        wait.max((shortest / 32).clamp(FINEST, COARSEST))
    }
}
