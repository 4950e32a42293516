//! A connection to try a new version with, before any user's goes to it.

use crate::accept::Incoming;
use crate::dispatch;
use crate::guest::handler::Handler;
use crate::service::Shared;
use crate::service::version::{Origin, PROBE, Version};
use crate::text::one_line;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What to send to a new version, and what it has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Sent as soon as the connection is open. May be nothing.
    pub send: Vec<u8>,
    /// What the answer has to begin with.
    pub expect: Vec<u8>,
    /// How long the answer may take. By default 5 seconds.
    pub timeout: Duration,
}

/// How long an answer may take, where nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a probe failed, or was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The text is no probe.
    #[error(
        "`{0}` is no probe: write send=TEXT,expect=TEXT; the escapes are \\r, \\n, \\t, \\0, \\\\, \\, \
         and \\xHH"
    )]
    Syntax(String),
    /// It answered something else.
    #[error("the probe failed: expected {expected:?}, and {source_name} answered {answered:?}")]
    Answer {
        /// Where the component came from.
        source_name: String,
        /// What the answer had to begin with.
        expected: String,
        /// What came.
        answered: String,
    },
    /// It did not answer in time.
    #[error("the probe failed: no answer within {0:?}; the answer so far was {1:?}")]
    Timeout(Duration, String),
    /// There was no connection.
    #[error("the probe failed: {0}")]
    Connection(#[from] io::Error),
}

impl Probe {
    /// Drives one real connection over loopback through `handler`.
    pub(crate) async fn run(
        &self,
        service: &Arc<Shared>,
        handler: Arc<Handler>,
    ) -> Result<(), ProbeError> {
        let source_name = handler.source().to_owned();
        let (mut client, incoming) = connect().await?;
        let version = Version::new(PROBE, handler, Origin::Start, Arc::default());
        // Its bytes are nobody's.
        let connection = service.take_on(incoming, &Arc::default());
        dispatch::start(service, &version)?;
        version.open_gate();
        // A version that has not ended takes it.
        let _ = dispatch::give(service, &version, connection, &mut None);
        let mut answer = Vec::new();
        let talk = async {
            client.write_all(&self.send).await?;
            let mut buffer = [0; 4096];
            while answer.len() < self.expect.len() {
                let count = client.read(&mut buffer).await?;
                if count == 0 {
                    break;
                }
                answer.extend(buffer.iter().take(count));
            }
            io::Result::Ok(())
        };
        let talked = tokio::time::timeout(self.timeout, talk).await;
        drop(client);
        version.abort();
        // Its instance takes room that the first user's may need.
        let _ = tokio::time::timeout(service.limits.linger, version.emptied()).await;
        match talked {
            _ if answer.starts_with(&self.expect) => Ok(()),
            Err(_) => Err(ProbeError::Timeout(self.timeout, text(&answer))),
            Ok(_) => Err(ProbeError::Answer {
                source_name,
                expected: text(&self.expect),
                answered: text(&answer),
            }),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(bytes))
}

/// Both ends of a connection over loopback. It has a permit of its own: a
/// service at its limit can be swapped too.
async fn connect() -> io::Result<(TcpStream, Incoming)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (accepted, peer) = listener.accept()?;
    accepted.set_nonblocking(true)?;
    accepted.set_nodelay(true)?;
    let permit = Arc::new(Semaphore::new(1))
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let incoming = Incoming {
        socket: OwnedFd::from(accepted),
        peer,
        permit,
    };
    Ok((client, incoming))
}

impl FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let syntax = || ProbeError::Syntax(text.to_owned());
        let (mut send, mut expect) = (None, None);
        for (key, value) in fields(text).ok_or_else(syntax)? {
            let field = match key.as_str() {
                "send" => &mut send,
                "expect" => &mut expect,
                _ => return Err(syntax()),
            };
            if field.replace(value).is_some() {
                return Err(syntax());
            }
        }
        Ok(Self {
            send: send.unwrap_or_default(),
            expect: expect
                .filter(|expect| !expect.is_empty())
                .ok_or_else(syntax)?,
            timeout: DEFAULT_TIMEOUT,
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("send=")?;
        escaped(&self.send, f)?;
        f.write_str(",expect=")?;
        escaped(&self.expect, f)
    }
}

fn escaped(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        match byte {
            b'\\' => f.write_str("\\\\")?,
            b',' => f.write_str("\\,")?,
            b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

/// `KEY=VALUE` parts between commas, with the escapes of the values replaced.
fn fields(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let mut fields = Vec::new();
    let mut characters = text.chars();
    loop {
        let key: String = characters.by_ref().take_while(|c| *c != '=').collect();
        let mut value = Vec::new();
        let more = loop {
            match characters.next() {
                None => break false,
                Some(',') => break true,
                Some('\\') => value.push(escape(&mut characters)?),
                Some(c) => value.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        };
        fields.push((key, value));
        if !more {
            return Some(fields);
        }
    }
}

fn escape(characters: &mut std::str::Chars<'_>) -> Option<u8> {
    Some(match characters.next()? {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        ',' => b',',
        'x' => {
            let digits: String = characters.take(2).collect();
            u8::from_str_radix(&digits, 16)
                .ok()
                .filter(|_| digits.len() == 2)?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_written_with_escapes() {
        let check = |text: &str, send: &[u8], expect: &[u8]| {
            let probe: Probe = text.parse().unwrap();
            assert_eq!((&*probe.send, &*probe.expect), (send, expect), "{text}");
            assert_eq!(probe.timeout, Duration::from_secs(5));
            assert_eq!(probe.to_string().parse::<Probe>().unwrap(), probe);
        };
        check(r"send=hello\n,expect=HELLO\r\n", b"hello\n", b"HELLO\r\n");
        check(r"expect=a\,b=\x00\\", b"", b"a,b=\0\\");
        check("expect=ä", b"", "ä".as_bytes());
    }

    #[test]
    fn anything_else_says_what_to_write() {
        for text in [
            "",
            "hello",
            "send=x",
            "expect=",
            r"expect=\q",
            r"expect=\x1",
            "expect=a,expect=b",
            "foo=1,expect=a",
        ] {
            let error = text.parse::<Probe>().unwrap_err().to_string();
            assert!(
                error.contains("write send=TEXT,expect=TEXT"),
                "{text}: {error}"
            );
        }
    }
}
