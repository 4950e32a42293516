//! Text from others (guests, peers, arguments, the system) within a line of our
//! own, and times as text.
//!
//! There is one rule. A character that could end the line, move the cursor, change
//! the order of the text, or stay invisible is written as an escape of Rust (`\r`,
//! `\u{202e}`). A byte that is not UTF-8 is written as `\xff`. Everything else
//! stays as it is, backslashes too: JSON that a guest prints stays JSON, and
//! escaping a text twice gives the same result as escaping it once.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::str::Chars;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest reason that is shown, in characters. A guest or a library gave it.
const MAX_REASON: usize = 1000;

/// Whether a character may stand in a line as it is.
pub(crate) fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            // Ends of lines and paragraphs.
            '\u{2028}' | '\u{2029}'
            // Changes of the order in which text is read: marks, embeddings,
            // overrides, isolates.
            | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{206f}'
            // Invisible characters. U+200C and U+200D stay: scripts need them.
            | '\u{00ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns a text on one line, escaped where it has to be.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 16);
    push_escaped(&mut line, text);
    line.into()
}

/// Returns bytes that should be UTF-8 as text on one line.
pub(crate) fn escape_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return escape(text);
    }
    let mut line = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        push_escaped(&mut line, chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
    line.into()
}

fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if is_plain(character) {
            line.push(character);
        } else {
            line.extend(character.escape_default());
        }
    }
}

/// Reads bytes that are written as text with escapes: `\r`, `\n`, `\t`, `\0`, `\\`, `\,`
/// and `\xHH`. `None` if an escape is unknown.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut characters = text.chars();
    let mut bytes = Vec::with_capacity(text.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => bytes.push(unescape_next(&mut characters)?),
            plain => bytes.extend(plain.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Some(bytes)
}

/// Reads the rest of such an escape, after its backslash. `None` if it is unknown.
pub(crate) fn unescape_next(characters: &mut Chars<'_>) -> Option<u8> {
    Some(match characters.next()? {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '0' => 0,
        '\\' => b'\\',
        ',' => b',',
        'x' => {
            // Digits only: a number may also begin with a sign.
            let mut digit = || characters.next()?.to_digit(16);
            u8::try_from(digit()? << 4 | digit()?).ok()?
        }
        _ => return None,
    })
}

/// Returns a path as text on one line.
pub(crate) fn path(path: &Path) -> Cow<'_, str> {
    escape_bytes(path.as_os_str().as_bytes())
}

/// Returns a reason from a guest or a library on one line, cut to `MAX_REASON`.
pub(crate) fn one_line(text: &str) -> String {
    let mut rest = text.char_indices().skip(MAX_REASON);
    match rest.next() {
        Some((end, _)) => format!("{}…", escape(text.get(..end).unwrap_or(text))),
        None => escape(text).into_owned(),
    }
}

/// Removes the build directories from a library's text. They are on another machine
/// and tell the reader nothing.
pub(crate) fn without_build_paths(text: &str) -> Cow<'_, str> {
    const REGISTRY: &str = "/registry/src/";
    let mut rest = text;
    let mut shorter = String::new();
    while let Some((before, after)) = rest.split_once(REGISTRY) {
        let word = before.rfind(|c: char| c.is_whitespace() || "`'\"(".contains(c));
        let start = word.map_or(0, |at| at + 1);
        shorter.push_str(before.get(..start).unwrap_or(before));
        // Skips the directory of one registry.
        rest = after.split_once('/').map_or(after, |(_, path)| path);
    }
    if shorter.is_empty() && rest.len() == text.len() {
        return text.into();
    }
    shorter.push_str(rest);
    shorter.into()
}

/// Returns a line of the log, escaped so that it is one line. With `colours` the
/// formatter's own escape sequences stay. With `json` the escapes are those of
/// JSON.
pub(crate) fn finish_line(line: &str, colours: bool, json: bool) -> Cow<'_, str> {
    let text = line.strip_suffix('\n').unwrap_or(line);
    let stays = |character: char| is_plain(character) || (colours && character == '\u{1b}');
    if text.len() < line.len() && text.chars().all(stays) {
        return line.into();
    }
    let mut finished = String::with_capacity(line.len() + 16);
    for character in text.chars() {
        if stays(character) {
            finished.push(character);
        } else if json {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(finished, "\\u{unit:04x}");
            }
        } else {
            finished.extend(character.escape_default());
        }
    }
    finished.push('\n');
    finished.into()
}

/// Returns a time in RFC 3339, to the second. A time before 1970 or after 9999 is
/// shown as the nearest time within this range.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    const LAST: u64 = 253_402_300_799;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = UNIX_EPOCH.checked_add(Duration::from_secs(since.as_secs().min(LAST)));
    humantime::format_rfc3339_seconds(shown.unwrap_or(UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    /// One character of each kind that must not stand in a line.
    const HOSTILE: &str = "\0\t\n\u{b}\r\u{e}\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{61c}\u{180e}\
        \u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\
        \u{feff}\u{fffa}\u{e0041}";

    #[test]
    fn a_text_of_others_stays_on_one_line() {
        assert_eq!(escape("a\nb\x1b[31mc"), r"a\nb\u{1b}[31mc");
        assert_eq!(escape("one\r2026 ERROR two"), r"one\r2026 ERROR two");
        assert_eq!(escape("\0\u{202e}\u{2028}"), r"\u{0}\u{202e}\u{2028}");
        let line = escape(HOSTILE);
        assert!(line.is_ascii(), "{line}");
        assert!(line.chars().all(is_plain), "{line}");
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for text in [
            "",
            "plain",
            r#"{"a":"b\nc"}"#,
            "Grüße, 你好\u{3000}, مرحبا, می\u{200c}خواهم, 👩\u{200d}🚀, e\u{301}",
        ] {
            assert_eq!(escape(text), text);
            assert_eq!(escape_bytes(text.as_bytes()), text);
        }
    }

    #[test]
    fn escaping_twice_is_escaping_once() {
        let once = escape(HOSTILE).into_owned();
        assert_eq!(escape(&once), once);
        let once = escape_bytes(b"\xff\r\xc3").into_owned();
        assert_eq!(escape(&once), once);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_not_lost() {
        assert_eq!(escape_bytes(b"a\xff\xc3b\n"), r"a\xff\xc3b\n");
        assert_eq!(path(Path::new(OsStr::from_bytes(b"/\xfe/x"))), r"/\xfe/x");
    }

    #[test]
    fn a_reason_has_an_end() {
        assert_eq!(one_line("short\n"), r"short\n");
        let long = one_line(&"é".repeat(5000));
        assert_eq!(long.chars().count(), MAX_REASON + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn build_paths_are_not_shown() {
        let check = |text: &str, expected: &str| {
            assert_eq!(without_build_paths(text), expected);
        };
        check("nothing", "nothing");
        check(
            "at /home/x/.cargo/registry/src/index.crates.io-1949/wasmtime-48.0.8/src/a.rs:1:2",
            "at wasmtime-48.0.8/src/a.rs:1:2",
        );
        check(
            "(`/c/registry/src/i/a/b.rs`, /c/registry/src/i/c.rs) end",
            "(`a/b.rs`, c.rs) end",
        );
        check("/registry/src/", "");
    }

    #[test]
    fn a_line_of_the_log_is_one_line() {
        let check = |line: &str, colours, json, expected: &str| {
            assert_eq!(finish_line(line, colours, json), expected);
        };
        check("plain\n", false, false, "plain\n");
        check("a\r\u{1b}b\n", false, false, "a\\r\\u{1b}b\n");
        check(
            "\u{1b}[2ma\rb\u{1b}[0m\n",
            true,
            false,
            "\u{1b}[2ma\\rb\u{1b}[0m\n",
        );
        check(
            "{\"a\":\"\u{2028}\u{e0041}\"}\n",
            false,
            true,
            "{\"a\":\"\\u2028\\udb40\\udc41\"}\n",
        );
        check("a\nb\n", false, false, "a\\nb\n");
        check("", false, false, "\n");
    }

    #[test]
    fn no_clock_is_too_early_or_too_late() {
        let check = |time: Option<SystemTime>, expected: &str| {
            assert_eq!(rfc3339(time.unwrap()), expected);
        };
        let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        check(at(0), "1970-01-01T00:00:00Z");
        check(at(1_795_564_800), "2026-11-25T00:00:00Z");
        check(at(253_402_300_799), "9999-12-31T23:59:59Z");
        check(at(253_402_300_800), "9999-12-31T23:59:59Z");
        check(at(1 << 62), "9999-12-31T23:59:59Z");
        let before = UNIX_EPOCH.checked_sub(Duration::from_secs(2_000_000_000));
        check(before, "1970-01-01T00:00:00Z");
    }
}
