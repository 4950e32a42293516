//! Answers each line with its number. Standard input and output are the connection, and each
//! connection has an instance of its own, as under inetd.
//!
//! Build it by `cargo build --release --target wasm32-wasip2`, and test it by `cargo test`.

use std::io::{self, BufRead as _, Write as _};

fn main() -> io::Result<()> {
    let mut output = io::stdout().lock();
    for (index, line) in io::stdin().lock().lines().enumerate() {
        writeln!(output, "{} {}", index + 1, line?)?;
        output.flush()?;
    }
    Ok(())
}
