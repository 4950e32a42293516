//! What `wasi:sockets` and `wasi:io/poll` can do and the standard library does not have: to
//! wait for one of several sockets, time-outs, options, and errors by their WASI names.
//!
//! It runs in any host with WASI 0.2: under `sockserve run` and under `wasmtime run`.

mod address;
mod datagram;
mod lookup;
mod options;
mod ready;
mod serve;
mod stream;
mod wait;

use std::env;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use wasi::sockets::network::ErrorCode;
use wasi::sockets::tcp::ShutdownType;

const USAGE: &str = "usage: either PLACE PLACE [MILLISECONDS] | several PLACE COUNT \
     | connect PLACE [MILLISECONDS] | receive PLACE MILLISECONDS | would-block PLACE \
     | shutdown PLACE receive|send|both | lines PLACE TEXT | serve PLACE COUNT \
     | datagram PLACE MILLISECONDS | options tcp4|tcp6|udp4|udp6 | resolve NAME [4|6]";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    match *words {
        // R3.
        ["either", first, second] => ready::either([place(first)?, place(second)?], 5000),
        ["either", first, second, time] => {
            ready::either([place(first)?, place(second)?], number(time)?)
        }
        ["several", to, count] => ready::several(place(to)?, number(count)?),
        ["connect", to] => stream::connect_and_tell(place(to)?, None),
        ["connect", to, time] => stream::connect_and_tell(place(to)?, Some(number(time)?)),
        ["receive", from, time] => stream::receive(place(from)?, number(time)?),
        ["would-block", to] => stream::would_block(place(to)?),
        ["shutdown", to, "receive"] => stream::shutdown(place(to)?, ShutdownType::Receive),
        ["shutdown", to, "send"] => stream::shutdown(place(to)?, ShutdownType::Send),
        ["shutdown", to, "both"] => stream::shutdown(place(to)?, ShutdownType::Both),
        ["lines", to, text] => stream::lines(place(to)?, text),
        ["serve", at, count] => serve::serve(place(at)?, number(count)?),
        ["datagram", to, time] => datagram::exchange(place(to)?, number(time)?),
        ["options", kind] => options::set_and_read(kind),
        ["resolve", name] => lookup::resolve(name, None),
        ["resolve", name, "4"] => lookup::resolve(name, Some(false)),
        ["resolve", name, "6"] => lookup::resolve(name, Some(true)),
        _ => Err(USAGE.to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn place(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text} is no IP address with a port"))
}

/// What was done, and the name of the error by which that has failed.
fn of<T>(what: &str, result: Result<T, ErrorCode>) -> Result<T, String> {
    result.map_err(|code| format!("{what}: {}", code.name()))
}

fn print(bytes: &[u8]) -> Result<(), String> {
    let mut output = io::stdout().lock();
    let printed = output.write_all(bytes).and_then(|()| output.flush());
    printed.map_err(|error| format!("print: {error}"))
}
