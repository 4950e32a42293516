//! What the counter counts: the lines of a connection, or the datagrams of an instance.

use sockserve_handler::{HandOver, InstanceState};

/// How many lines a connection has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines(pub u64);

impl HandOver for Lines {
    type State = u64;
    const TAG: &'static str = "counter/1";

    fn save(&self) -> u64 {
        self.0
    }

    fn resume(state: u64) -> Self {
        Self(state)
    }
}

/// How many lines or datagrams an instance has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total(pub u64);

impl InstanceState for Total {
    type State = u64;
    const TAG: &'static str = "counter-total/1";

    fn save(&self) -> u64 {
        self.0
    }

    fn restore(&mut self, state: u64) {
        self.0 = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_pass_on() {
        assert_eq!(Lines::resume(Lines(7).save()), Lines(7));
        let mut total = Total::default();
        total.restore(Total(7).save());
        assert_eq!(total, Total(7));
    }
}
