//! The arguments of a command that `sockserve compose` has made, and the lines that it
//! prints. No I/O is here, and nothing of the standard library.
#![no_std]

extern crate alloc;

mod lines;

pub use lines::{batch_failure_line, failure_line, listen_error_line, ready_line, service_name};

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// Connections that are open at once, if `--max-connections` is not given.
pub const MAX_CONNECTIONS: usize = 1024;

/// How long a connection may take to end, if `--linger` is not given.
pub const LINGER: Duration = Duration::from_secs(2);

/// The most that `--linger` may be.
const MAX_LINGER_SECONDS: u64 = 86_400;

/// What `--help` prints.
pub const USAGE: &str = "\
Serve connections or datagrams at these addresses.

  --listen ADDRESS       IP:PORT, [IPv6]:PORT, or the same after tcp:// or udp://;
                         port 0 is any free one; may be repeated
  --max-connections N    open at once; others wait (default 1024)
  --linger SECONDS       how long a connection may take to end (default 2)
  --                     what follows is for the handler only
";

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Transport {
    /// As URLs begin.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Tcp => Self::Udp,
            Self::Udp => Self::Tcp,
        }
    }
}

/// What the arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen; one address at least.
    pub listen: Vec<SocketAddr>,
    /// Connections that are open at once; 1 at least.
    pub max_connections: usize,
    /// How long a connection may take to end.
    pub linger: Duration,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To print [`USAGE`].
    Help,
    /// To serve.
    Serve(Options),
}

/// Reads the arguments, without the program's name. The error is one line.
pub fn parse(
    transport: Transport,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Request, String> {
    let mut options = Options {
        listen: Vec::new(),
        max_connections: MAX_CONNECTIONS,
        linger: LINGER,
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            break;
        }
        if argument == "--help" || argument == "-h" {
            return Ok(Request::Help);
        }
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if !matches!(name, "--listen" | "--max-connections" | "--linger") {
            let argument = lines::quoted(&argument);
            return Err(format!(
                "unexpected argument {argument}; there are --listen, --max-connections and \
                 --linger; arguments of the handler come after --"
            ));
        }
        let Some(value) = given.or_else(|| arguments.next()) else {
            return Err(format!("{name} needs a value; see --help"));
        };
        match name {
            "--listen" => options.listen.push(address(transport, &value)?),
            "--max-connections" => {
                options.max_connections = number(name, &value, 1, usize::MAX)?;
            }
            _ => {
                options.linger = Duration::from_secs(number(name, &value, 0, MAX_LINGER_SECONDS)?);
            }
        }
    }
    if options.listen.is_empty() {
        let scheme = transport.scheme();
        return Err(format!(
            "nowhere to listen; write for example --listen {scheme}://127.0.0.1:7000"
        ));
    }
    Ok(Request::Serve(options))
}

fn number<T>(name: &str, value: &str, least: T, most: T) -> Result<T, String>
where
    T: core::str::FromStr + PartialOrd + core::fmt::Display,
{
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits);
    number
        .filter(|number| *number >= least && *number <= most)
        .ok_or_else(|| {
            let value = lines::quoted(value);
            format!("{name} {value}: expected a whole number from {least} to {most}")
        })
}

fn address(transport: Transport, value: &str) -> Result<SocketAddr, String> {
    let scheme = transport.scheme();
    let quoted = lines::quoted(value);
    let other = transport.other().scheme();
    let rest = match value.split_once("://") {
        None => value,
        Some((given, rest)) if given == scheme => rest,
        Some((given, _)) if given == other => {
            return Err(format!(
                "--listen {quoted}: the handler takes what comes over {scheme}, and not over \
                 {given}; write {scheme}://IP:PORT"
            ));
        }
        Some(_) => {
            return Err(format!(
                "--listen {quoted}: WASI has no such sockets; write {scheme}://IP:PORT, or serve \
                 the handler by sockserve"
            ));
        }
    };
    rest.parse::<SocketAddr>().map_err(|_| {
        let name = rest.rsplit_once(':').map_or(rest, |(name, _)| name);
        let hint = if name.parse::<IpAddr>().is_ok() {
            "a port is a number from 0 to 65535, and IPv6 is in brackets"
        } else {
            "names are not looked up"
        };
        format!("--listen {quoted}: {hint}; write for example {scheme}://127.0.0.1:7000")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn parsed(words: &[&str]) -> Result<Request, String> {
        parse(Transport::Tcp, words.iter().map(ToString::to_string))
    }

    #[track_caller]
    fn served(words: &[&str]) -> Options {
        match parsed(words).unwrap() {
            Request::Serve(options) => options,
            Request::Help => unreachable!(),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let options = served(&["--listen", "127.0.0.1:7"]);
        assert_eq!(options.max_connections, 1024);
        assert_eq!(options.linger, Duration::from_secs(2));
        for said in ["(default 1024)", "(default 2)"] {
            assert!(USAGE.contains(said));
        }
    }

    #[test]
    fn addresses_have_all_their_forms() {
        let options = served(&["--listen", "tcp://[::1]:0", "--listen=127.0.0.1:65535"]);
        let listen: Vec<_> = options.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["[::1]:0", "127.0.0.1:65535"]);
    }

    #[test]
    fn what_follows_two_hyphens_is_the_handlers() {
        let options = served(&["--listen", "127.0.0.1:7", "--", "--linger", "x"]);
        assert_eq!(options.linger, LINGER);
        assert_eq!(parsed(&["--help"]), Ok(Request::Help));
    }

    #[test]
    fn a_wrong_argument_is_told_what_would_work() {
        for (words, said) in [
            (&[][..], "nowhere to listen"),
            (&["--listen"], "--listen needs a value"),
            (&["--listen", "localhost:7"], "names are not looked up"),
            (&["--listen", "1.2.3.4:x"], "a port is a number"),
            (&["--listen", "::1:7"], "127.0.0.1:7000"),
            (&["--listen", "udp://1.2.3.4:5"], "not over udp"),
            (&["--listen", "unix:///a"], "WASI has no such sockets"),
            (&["--linger", "-1"], "from 0 to 86400"),
            (&["--max-connections", "0"], "from 1 to"),
            (&["--max-connections", "+1"], "from 1 to"),
            (&["--port", "7"], "unexpected argument '--port'"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(said), "{words:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
