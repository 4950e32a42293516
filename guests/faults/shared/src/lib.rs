//! What the misbehaving guests of all contracts share: their options, and the faults
//! that are the same under each contract.
//!
//! A fault that ends an instance begins at a chunk that starts with `fault\n`. All other
//! chunks are echoed, so that a test can keep healthy connections on the same instance.
//! `fault MODE\n` begins the fault of another mode.

pub mod datagrams;
mod knowledge;
mod manner;
mod options;

use echo_protocol::State;
use sockserve_handler::session::{Output, Peer, Protocol, Resume, Session, Step};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use options::{Keeping, Manner, Mode};

/// The error that `err` returns.
pub const FAILURE: &str = "deliberate failure";

/// The line at the start of a chunk that begins a fault: that of `MODE`, or of the mode
/// that stands behind it.
const TRIGGER: &[u8] = b"fault";

/// The start of a chunk for `random`. The rest of the chunk is the seed.
const SEED: &[u8] = b"random ";

/// How many bytes `flood` writes at a time, and `print` prints on one line.
const MUCH: usize = 64 * 1024;

/// How many bytes `slow` reads at a time, and for how long it computes then.
const LITTLE: usize = 1024;
const SLOW: Duration = Duration::from_millis(20);

/// How many connections of the mode `count`, or reads of the mode `slow`, the instance has served.
static SERVED: AtomicU32 = AtomicU32::new(0);

/// What the shell has to do before it closes the connection of a session. It differs
/// between the contracts.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// `err`: fail.
    Fail,
    /// `block`: wait inside a turn.
    Block,
    /// `leak`: drop the connection without a `close`.
    Leak,
    /// `outbound`: connect to this address, and answer whether it worked.
    Connect(String),
    /// `lookup`: resolve this name, and answer the addresses.
    Resolve(String),
    /// `misuse`: use the streams wrongly.
    Misuse,
    /// `random`: make changes from this seed.
    Random(u64),
}

/// The family with the option `MODE` set. It has the state of the echo family.
#[derive(Clone, Copy, Debug)]
pub struct FaultProtocol {
    /// What its sessions do.
    pub mode: Mode,
}

impl Protocol for FaultProtocol {
    type Session = Fault;
    const TAG: &'static str = echo_protocol::TAG;

    fn session(&self, _: impl FnOnce() -> Result<Peer, String>) -> Result<Fault, String> {
        Ok(Fault {
            mode: self.mode,
            collected: Vec::new(),
            request: None,
        })
    }
}

/// One connection of a misbehaving guest.
#[derive(Debug)]
pub struct Fault {
    mode: Mode,
    /// Input that waits for a line to be complete, or for end of file.
    collected: Vec<u8>,
    /// What the shell is to do before it closes the connection.
    pub request: Option<Request>,
}

impl Fault {
    /// Adds a chunk to the input. Returns the first line when it is complete.
    fn line(&mut self, chunk: &[u8]) -> Option<String> {
        self.collected.extend_from_slice(chunk);
        let end = self.collected.iter().position(|&byte| byte == b'\n')?;
        let line = self.collected.get(..end)?;
        Some(String::from_utf8_lossy(line).trim_end().to_owned())
    }

    /// The mode whose fault a chunk begins.
    fn triggered(&self, chunk: &[u8]) -> Option<Mode> {
        let end = chunk.iter().position(|&byte| byte == b'\n')?;
        let line = chunk.get(..end)?;
        match line.strip_prefix(TRIGGER)? {
            [] => Some(self.mode),
            [b' ', name @ ..] => str::from_utf8(name).ok()?.parse().ok(),
            _ => None,
        }
    }

    fn misbehave(&mut self) -> Option<Request> {
        match self.mode {
            Mode::Spin => spin(),
            Mode::Hog => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            Mode::Err => Some(Request::Fail),
            Mode::Block => Some(Request::Block),
            Mode::Leak => Some(Request::Leak),
            Mode::Misuse => Some(Request::Misuse),
            // It begins in `add_more`, when the output so far is written.
            Mode::Flood => None,
            _ => trap(),
        }
    }
}

impl Session for Fault {
    fn open(&mut self, output: &mut Output) -> Step {
        match self.mode {
            Mode::TrapOpen => trap(),
            Mode::Early => Step::Close,
            Mode::Count => {
                let line = format!("connection {}\r\n", count());
                output.bytes.push(line.as_bytes());
                Step::Continue
            }
            Mode::Env => {
                for (name, value) in std::env::vars_os() {
                    let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
                    output.bytes.push(format!("{name}={value}\r\n").as_bytes());
                }
                Step::Close
            }
            _ => Step::Continue,
        }
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        match self.mode {
            Mode::HalfClose => self.collected.extend_from_slice(chunk),
            Mode::Print => {
                print(std::io::stdout(), chunk);
                print(std::io::stderr(), chunk);
                output.bytes.push(b"printed\r\n");
                return Step::Close;
            }
            Mode::Dir => {
                if let Some(path) = self.line(chunk) {
                    match std::fs::read(path) {
                        Ok(content) => output.bytes.push(&content),
                        Err(error) => output.bytes.push(format!("error: {error}\r\n").as_bytes()),
                    }
                    return Step::Close;
                }
            }
            Mode::Outbound => self.request = self.line(chunk).map(Request::Connect),
            Mode::Lookup => self.request = self.line(chunk).map(Request::Resolve),
            Mode::Tick => {}
            Mode::Slow => {
                compute_for(SLOW);
                output.bytes.push(format!("{}\r\n", count()).as_bytes());
            }
            Mode::Random if chunk.starts_with(SEED) => {
                self.request = Some(Request::Random(seed(chunk)));
            }
            _ => match self.triggered(chunk) {
                Some(mode) => {
                    self.mode = mode;
                    self.request = self.misbehave();
                }
                None => output.bytes.push(chunk),
            },
        }
        match self.request {
            Some(_) => Step::Close,
            None => Step::Continue,
        }
    }

    fn read_limit(&self) -> usize {
        match self.mode {
            Mode::Slow => LITTLE,
            _ => 64 * 1024,
        }
    }

    fn add_more(&mut self, output: &mut Output) -> Step {
        if self.mode == Mode::Flood {
            output.bytes.push(&[b'x'; MUCH]);
        }
        Step::Continue
    }

    fn end(&mut self, output: &mut Output) {
        if self.mode == Mode::HalfClose {
            output.bytes.push(&std::mem::take(&mut self.collected));
        }
    }
}

impl Resume for Fault {
    type State = State;

    fn save(&mut self) -> State {
        State {
            unfinished: std::mem::take(&mut self.collected),
        }
    }

    fn restore(&mut self, state: State, output: &mut Output) -> Step {
        let step = match self.mode {
            // These act when a peer connects, and none does here.
            Mode::TrapOpen | Mode::Env => Step::Continue,
            _ => self.open(output),
        };
        match step {
            Step::Continue if !state.unfinished.is_empty() => {
                self.receive(&state.unfinished, output)
            }
            step => step,
        }
    }
}

/// One more is served: its number.
fn count() -> u32 {
    SERVED.fetch_add(1, Ordering::Relaxed) + 1
}

/// A seed from a chunk: its hash by FNV-1a.
fn seed(chunk: &[u8]) -> u64 {
    chunk.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Whether connections are given up one after another: the option `ROLLING` is set.
pub fn is_rolling() -> bool {
    std::env::var_os("ROLLING").is_some()
}

/// Traps, and writes nothing to standard error.
pub fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// Computes forever.
pub fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Computes for so long.
pub fn compute_for(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Prints a line, a line that is not UTF-8, and a long one without a line ending.
fn print(mut stream: impl Write, chunk: &[u8]) {
    let text = String::from_utf8_lossy(chunk);
    let _ = writeln!(
        stream,
        "received {} bytes: {}",
        chunk.len(),
        text.trim_end()
    );
    let _ = stream.write_all(b"not UTF-8: \xff\xfe\n");
    let _ = stream.write_all(&[b'x'; MUCH]);
    let _ = stream.flush();
}
