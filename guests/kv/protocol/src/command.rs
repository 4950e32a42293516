//! What a line says.

/// A line of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// `SET KEY VALUE`
    Set { key: &'a [u8], value: &'a [u8] },
    /// `GET KEY`
    Get { key: &'a [u8] },
    /// `DEL KEY`
    Delete { key: &'a [u8] },
    /// `COUNT`
    Count,
}

impl<'a> Command<'a> {
    /// Reads a line without its line ending. The error is what was expected.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, &'static str> {
        let (name, rest) = split(line);
        match (name, rest) {
            (b"SET", Some(rest)) => match split(rest) {
                (key, Some(value)) if !key.is_empty() => Ok(Self::Set { key, value }),
                _ => Err("expected SET KEY VALUE"),
            },
            (b"SET", None) => Err("expected SET KEY VALUE"),
            (b"GET", rest) => key(rest)
                .map(|key| Self::Get { key })
                .ok_or("expected GET KEY"),
            (b"DEL", rest) => key(rest)
                .map(|key| Self::Delete { key })
                .ok_or("expected DEL KEY"),
            (b"COUNT", None) => Ok(Self::Count),
            (b"COUNT", Some(_)) => Err("expected COUNT alone"),
            _ => Err("expected SET, GET, DEL or COUNT"),
        }
    }
}

/// Splits at the first space.
fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |&byte| byte == b' ');
    (parts.next().unwrap_or_default(), parts.next())
}

/// What follows is a key, and nothing else.
fn key(rest: Option<&[u8]>) -> Option<&[u8]> {
    rest.filter(|key| !key.is_empty() && !key.contains(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        #[track_caller]
        fn check(line: &str, expected: Result<Command<'_>, &str>) {
            assert_eq!(Command::parse(line.as_bytes()), expected, "{line:?}");
        }
        let set = |key, value| Ok(Command::Set { key, value });
        check("SET a b", set(b"a", b"b"));
        check("SET a b c ", set(b"a", b"b c "));
        check("SET a ", set(b"a", b""));
        check("SET a  b", set(b"a", b" b"));
        check("SET ü ß", set("ü".as_bytes(), "ß".as_bytes()));
        for line in ["SET", "SET ", "SET a", "SET  b"] {
            check(line, Err("expected SET KEY VALUE"));
        }
        check("GET a", Ok(Command::Get { key: b"a" }));
        for line in ["GET", "GET ", "GET a ", "GET a b", "GET  a"] {
            check(line, Err("expected GET KEY"));
        }
        check("DEL a", Ok(Command::Delete { key: b"a" }));
        check("DEL", Err("expected DEL KEY"));
        check("COUNT", Ok(Command::Count));
        check("COUNT ", Err("expected COUNT alone"));
        for line in ["", " ", "get a", "SETA b", " GET a"] {
            check(line, Err("expected SET, GET, DEL or COUNT"));
        }
    }
}
