//! The counter under the contract `blocking`: answers each line with its number.

use counter_protocol::Lines;
use sockserve_handler::blocking::Connection;
use std::io::{self, Write as _};

fn handle(connection: &mut Connection, lines: &mut Lines) -> io::Result<()> {
    while let Some(line) = connection.next_line()? {
        lines.0 += 1;
        writeln!(connection, "{} {line}", lines.0)?;
    }
    Ok(())
}

sockserve_handler::blocking!(handle, hand_over = Lines);
