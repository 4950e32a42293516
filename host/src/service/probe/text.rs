//! A probe as text: `send=TEXT,expect=TEXT`.

use super::{DEFAULT_TIMEOUT, Probe, ProbeError};
use crate::text::{one_line, unescape_next};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// The most bytes of a probe or of an answer that a message shows.
const MAX_SHOWN: usize = 200;

impl FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let syntax = || ProbeError::Syntax(one_line(text));
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

/// Bytes as a message shows them: with the escapes of a probe, and cut after
/// [`MAX_SHOWN`].
pub(super) struct Shown(Vec<u8>);

impl Shown {
    pub(super) fn new(bytes: &[u8]) -> Self {
        // Keeps one byte more than is shown, to know whether there are more.
        Self(bytes.iter().take(MAX_SHOWN + 1).copied().collect())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_at_checked(MAX_SHOWN) {
            Some((shown, [_, ..])) => {
                escaped(shown, f)?;
                f.write_char('…')
            }
            _ => escaped(&self.0, f),
        }
    }
}

/// Writes bytes with the escapes of a probe.
fn escaped(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in bytes {
        match byte {
            b'\\' => f.write_str("\\\\")?,
            b',' => f.write_str("\\,")?,
            b'\r' => f.write_str("\\r")?,
            b'\n' => f.write_str("\\n")?,
            b'\t' => f.write_str("\\t")?,
            b' '..=b'~' => f.write_char(char::from(*byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    Ok(())
}

/// Splits `KEY=VALUE` parts at commas, and replaces the escapes in the values. `None`
/// if a part has no `=`, or an escape is unknown.
fn fields(text: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let mut characters = after.chars();
        let mut value = Vec::new();
        let more = loop {
            match characters.next() {
                None => break false,
                Some(',') => break true,
                Some('\\') => value.push(unescape_next(&mut characters)?),
                Some(c) => value.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        };
        fields.push((key.to_owned(), value));
        if !more {
            return Some(fields);
        }
        rest = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_probe_is_written_with_escapes() {
        let check = |text: &str, send: &[u8], expect: &[u8]| {
            let probe: Probe = text.parse().unwrap();
            assert_eq!((&*probe.send, &*probe.expect), (send, expect), "{text}");
            assert_eq!(probe.timeout, std::time::Duration::from_secs(5));
            assert_eq!(probe.to_string().parse::<Probe>().unwrap(), probe);
        };
        check(r"send=hello\n,expect=HELLO\r\n", b"hello\n", b"HELLO\r\n");
        check(r"expect=a\,b=\x00\\", b"", b"a,b=\0\\");
        check(r"expect=\xfF,send=", b"", b"\xff");
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
            r"expect=\",
            r"expect=\x1",
            r"expect=\x+1",
            r"expect=\x-1",
            r"expect=\x 1",
            r"expect=\x1٣",
            "expect=a,expect=b",
            "foo=1,expect=a",
            "expect=a,",
            "expect=a,send",
            "send,expect=a",
            " expect=a",
            "expect=a\n,x=\u{1b}[31m",
        ] {
            let error = text.parse::<Probe>().unwrap_err().to_string();
            assert!(
                error.contains("write send=TEXT,expect=TEXT"),
                "{text}: {error}"
            );
            assert!(!error.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn what_is_shown_is_a_line_that_ends() {
        let check = |bytes: &[u8], shown: &str| assert_eq!(Shown::new(bytes).to_string(), shown);
        check(b"a,b\r\n\x1b\xff", r"a\,b\r\n\x1b\xff");
        check(&[b'x'; MAX_SHOWN], &"x".repeat(MAX_SHOWN));
        let more = format!("{}…", "x".repeat(MAX_SHOWN));
        check(&[b'x'; MAX_SHOWN + 1], &more);
        check(&[b'x'; 5000], &more);
    }

    proptest! {
        /// Every probe, written as text and read again, is the same probe.
        #[test]
        fn every_probe_can_be_written(send: Vec<u8>, expect in prop::collection::vec(any::<u8>(), 1..50)) {
            let probe = Probe::new(send, expect);
            let text = probe.to_string();
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text}");
            prop_assert_eq!(text.parse::<Probe>().unwrap(), probe);
        }

        /// Any text is a probe, or is refused in one line. A probe that was read means
        /// the same when it is written and read again.
        #[test]
        fn any_text_is_a_probe_or_refused(
            text in prop_oneof![any::<String>(), r"(send|expect|,|=|\\|x|[0-9a-f+-]|\PC){0,20}"]
        ) {
            match text.parse::<Probe>() {
                Ok(probe) => prop_assert_eq!(probe.to_string().parse::<Probe>().unwrap(), probe),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }
}
