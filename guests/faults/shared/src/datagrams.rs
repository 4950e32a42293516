//! Datagrams as commands. Anything that is no command comes back as it is.

use std::net::SocketAddr;
use std::time::Duration;

/// What a datagram asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `trap`: trap.
    Trap,
    /// `spin`: compute without end.
    Spin,
    /// `grow`: take memory without end.
    Grow,
    /// `err TEXT`: fail with this text.
    Fail(String),
    /// `sleep MS`: wait, and answer `slept`.
    Sleep(Duration),
    /// Answer with these datagrams: `many N` is N of them, `big N` one of N bytes,
    /// `flood N` N of the largest size, `empty` one without bytes, `silent` none. Everything else is one, as it came.
    Answer(Vec<Vec<u8>>),
    /// `to HOST:PORT TEXT`: send the text there.
    To(SocketAddr, Vec<u8>),
    /// `from HOST:PORT TEXT`: answer the text from there.
    From(SocketAddr, Vec<u8>),
    /// `later TEXT`: send the text with the answers of the next batch.
    Later(Vec<u8>),
    /// `count`: answer how many datagrams the instance has had.
    Count,
    /// `who`: answer the addresses of the datagram.
    Who,
}

impl From<Vec<u8>> for Command {
    fn from(data: Vec<u8>) -> Self {
        match str::from_utf8(&data).ok().and_then(parse) {
            Some(command) => command,
            None => Self::Answer(vec![data]),
        }
    }
}

fn parse(text: &str) -> Option<Command> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let place = || {
        let (place, text) = rest.split_once(' ')?;
        Some((place.parse().ok()?, text.as_bytes().to_vec()))
    };
    Some(match word {
        "trap" => Command::Trap,
        "spin" => Command::Spin,
        "grow" => Command::Grow,
        "err" => Command::Fail(rest.to_owned()),
        "sleep" => Command::Sleep(Duration::from_millis(rest.parse().ok()?)),
        "many" => {
            let count: u32 = rest.parse().ok()?;
            Command::Answer((1..=count).map(|it| it.to_string().into_bytes()).collect())
        }
        "big" => Command::Answer(vec![vec![b'x'; rest.parse().ok()?]]),
        "flood" => {
            let count: usize = rest.parse().ok()?;
            Command::Answer(vec![vec![b'x'; 65_507]; count])
        }
        "empty" => Command::Answer(vec![Vec::new()]),
        "silent" => Command::Answer(Vec::new()),
        "to" => {
            let (place, text) = place()?;
            Command::To(place, text)
        }
        "from" => {
            let (place, text) = place()?;
            Command::From(place, text)
        }
        "later" => Command::Later(rest.as_bytes().to_vec()),
        "count" => Command::Count,
        "who" => Command::Who,
        _ => return None,
    })
}

/// Takes memory without end.
pub fn grow() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}
