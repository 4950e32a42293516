//! A program on WASI 0.3: echoes its standard input. With the argument `fail` it says so
//! at the end, and fails.

use wasip3::cli::environment::get_arguments;
use wasip3::cli::{stderr, stdin, stdout};

struct Program;

wasip3::cli::command::export!(Program);

impl wasip3::exports::cli::run::Guest for Program {
    async fn run() -> Result<(), ()> {
        let (input, read) = stdin::read_via_stream();
        let written = stdout::write_via_stream(input).await;
        // What reading says comes second: it may be that nobody could write.
        let result = written.and(read.await);
        if let Err(error) = result {
            say(format!("echo: {error:?}\n")).await;
            return Err(());
        }
        if get_arguments().iter().any(|argument| argument == "fail") {
            say("fails on purpose\n".to_owned()).await;
            return Err(());
        }
        Ok(())
    }
}

async fn say(line: String) {
    let (mut output, lines) = wasip3::wit_stream::new();
    let writing = stderr::write_via_stream(lines);
    output.write_all(line.into_bytes()).await;
    drop(output);
    let _ = writing.await;
}
