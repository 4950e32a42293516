//! The counter under the contract `blocking`: answers each line with its number. After
//! the line `end` it writes no more, and logs what comes.

use counter_protocol::Lines;
use sockserve_handler::blocking::Connection;
use std::io::{self, Write as _};
use std::net::Shutdown;

fn handle(connection: &mut Connection, lines: &mut Lines) -> io::Result<()> {
    while let Some(line) = connection.next_line()? {
        lines.count += 1;
        if lines.ended {
            println!("{} {line}", lines.count);
            continue;
        }
        writeln!(connection, "{} {line}", lines.count)?;
        if line == "end" {
            connection.shutdown(Shutdown::Write)?;
            lines.ended = true;
        }
    }
    Ok(())
}

sockserve_handler::blocking!(handle, hand_over = Lines);
