//! The counter under the contract `evented`: answers each line with its number. After
//! the line `end` it writes no more, and logs what comes.

use counter_protocol::{Lines, Total};
use sockserve_handler::InstanceState;
use sockserve_handler::evented::{Connection, Handler};
use std::io::{self, Write as _};

#[derive(Default)]
struct Counter {
    total: Total,
}

impl Handler for Counter {
    type Data = Lines;

    fn readable(&mut self, connection: &mut Connection<'_, Lines>) -> io::Result<()> {
        while let Some(line) = connection.next_line()? {
            self.total.0 += 1;
            if line == "total" {
                writeln!(connection, "{} in all", self.total.0)?;
                continue;
            }
            let lines = connection.data();
            lines.count += 1;
            let Lines { count, ended } = *lines;
            if ended {
                println!("{count} {line}");
                continue;
            }
            if line == "end" {
                lines.ended = true;
                connection.shutdown_when_done();
            }
            writeln!(connection, "{count} {line}")?;
        }
        Ok(())
    }
}

impl InstanceState for Counter {
    type State = u64;
    const TAG: &'static str = Total::TAG;

    fn save(&self) -> u64 {
        self.total.save()
    }

    fn restore(&mut self, state: u64) {
        self.total.restore(state);
    }
}

sockserve_handler::evented!(Counter, hand_over, instance_state);
