//! The counter under the contract `concurrent`: answers each line with its number. After
//! the line `end` it writes no more, and logs what comes.

use counter_protocol::{Lines, Total};
use sockserve_handler::concurrent::Connection;
use std::cell::RefCell;
use std::io;

thread_local! {
    static TOTAL: RefCell<Total> = RefCell::default();
}

async fn handle(connection: &mut Connection, lines: &mut Lines) -> io::Result<()> {
    while let Some(line) = connection.next_line().await? {
        TOTAL.with_borrow_mut(|total| total.0 += 1);
        if line == "total" {
            let total = TOTAL.with_borrow(|total| total.0);
            writeln!(connection, "{total} in all")?;
            continue;
        }
        lines.count += 1;
        if lines.ended {
            println!("{} {line}", lines.count);
            continue;
        }
        writeln!(connection, "{} {line}", lines.count)?;
        if line == "end" {
            connection.shutdown().await?;
            lines.ended = true;
        }
    }
    Ok(())
}

sockserve_handler::concurrent!(handle, hand_over = Lines, instance_state = TOTAL);
