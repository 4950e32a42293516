//! Options, which are environment variables of a guest.

use std::env;
use std::ffi::OsString;
use std::str::FromStr;

/// Reads the option `name`, an environment variable. If it is not set, it has its
/// default. The error is one line that says what was expected.
pub fn option<T>(name: &str) -> Result<T, String>
where
    T: FromStr<Err = String> + Default,
{
    parse_option(name, env::var_os(name))
}

/// As [`option`], for a contract that cannot return an error: writes what was
/// expected to standard error, and traps.
pub fn option_or_trap<T>(name: &str) -> T
where
    T: FromStr<Err = String> + Default,
{
    option(name).unwrap_or_else(|error| crate::trap(&error))
}

/// Parses the value of the option `name`. If the option is not set, it has its default.
///
/// The error is one line that names the option, its value and what was expected,
/// for example `MODE=foo: expected stream, line, once, upper or hello`.
pub fn parse_option<T>(name: &str, value: Option<OsString>) -> Result<T, String>
where
    T: FromStr<Err = String> + Default,
{
    let Some(value) = value else {
        return Ok(T::default());
    };
    let Some(text) = value.to_str() else {
        return Err(format!("{name}: expected text in UTF-8"));
    };
    text.parse()
        .map_err(|expected| format!("{name}={text}: expected {expected}"))
}

/// Replaces the escapes `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` by the bytes they
/// stand for. The error is what was expected.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    const EXPECTED: &str = "only the escapes \\r, \\n, \\t, \\0, \\\\ and \\xHH";
    let hex = |digit: Option<u8>| {
        digit
            .and_then(|digit| char::from(digit).to_digit(16))
            .and_then(|value| u8::try_from(value).ok())
            .ok_or(EXPECTED)
    };
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => b'\0',
            Some(b'\\') => b'\\',
            Some(b'x') => hex(bytes.next())? << 4 | hex(bytes.next())?,
            _ => return Err(EXPECTED.to_owned()),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        #[track_caller]
        fn check(text: &str, expected: Option<&[u8]>) {
            assert_eq!(unescape(text).ok().as_deref(), expected, "{text:?}");
        }
        check("", Some(b""));
        check("plain", Some(b"plain"));
        check(r"\r\n\r\n", Some(b"\r\n\r\n"));
        check(r"\t\0\\", Some(b"\t\0\\"));
        check(r"\x00\xfF\x41", Some(b"\x00\xffA"));
        check(r"\x0041", Some(b"\x0041"));
        check("über", Some("über".as_bytes()));
        check(r"\\n", Some(b"\\n"));
        check(r"\", None);
        check(r"\q", None);
        check(r"\x", None);
        check(r"\x4", None);
        check(r"\xg0", None);
        check(r"\x+1", None);
    }

    #[derive(Debug, Default, PartialEq)]
    struct Even(u32);

    impl FromStr for Even {
        type Err = String;
        fn from_str(text: &str) -> Result<Self, String> {
            match text.parse() {
                Ok(n) if n % 2 == 0 => Ok(Self(n)),
                _ => Err("an even number".to_owned()),
            }
        }
    }

    #[test]
    fn options() {
        #[track_caller]
        fn check(value: Option<&str>, expected: Result<u32, &str>) {
            let value = value.map(OsString::from);
            assert_eq!(
                parse_option("SIZE", value),
                expected.map(Even).map_err(str::to_owned)
            );
        }
        check(None, Ok(0));
        check(Some("12"), Ok(12));
        check(Some("13"), Err("SIZE=13: expected an even number"));
        check(Some(""), Err("SIZE=: expected an even number"));
    }
}
