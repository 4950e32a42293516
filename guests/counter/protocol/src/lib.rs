//! What the counter counts: the lines of a connection, or the datagrams of an instance.

use sockserve_handler::{HandOver, InstanceState};

/// The lines of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// How many it has sent.
    pub count: u64,
    /// It has sent `end`, and gets no more answers.
    pub ended: bool,
}

impl HandOver for Lines {
    type State = (u64, bool);
    const TAG: &'static str = "counter/1";

    fn save(&self) -> Self::State {
        (self.count, self.ended)
    }

    fn resume((count, ended): Self::State) -> Self {
        Self { count, ended }
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
        let lines = Lines {
            count: 7,
            ended: true,
        };
        assert_eq!(Lines::resume(lines.save()), lines);
        let mut total = Total::default();
        total.restore(Total(7).save());
        assert_eq!(total, Total(7));
    }
}
