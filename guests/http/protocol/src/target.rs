//! What a request asks for: from the target in its first line to a path of the store.

/// Where a target leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The path in the store, without `.` and `..`. `None` if no file can have that name:
    /// it has a NUL, or is not UTF-8.
    pub(crate) path: Option<String>,
    /// Whether it is asked for as a directory, with `/` at its end.
    pub(crate) is_directory: bool,
    /// The same target with `/` at the end of its path, for a redirection.
    pub(crate) with_slash: String,
    /// The path as a listing shows it.
    pub(crate) shown: String,
}

impl Target {
    /// Reads a target. `None` if it is neither a path nor a URL.
    ///
    /// `..` at the root stays there. It is taken away after the escapes are decoded, so
    /// `%2e%2e` and `%2f` are nothing special.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = if text.starts_with('/') {
            text
        } else {
            path_of_url(text)?
        };
        let end = text.find(['?', '#']).unwrap_or(text.len());
        let (path, rest) = text.split_at(end);
        // Two slashes at the start of a `Location` would name another host.
        let path = match path.trim_start_matches('/') {
            "" => "/",
            trimmed => path.get(path.len() - trimmed.len() - 1..)?,
        };
        let bytes = decode(path);
        let slash = if path.ends_with('/') { "" } else { "/" };
        Some(Self {
            path: inside(&bytes),
            is_directory: path.ends_with('/'),
            with_slash: format!(
                "{path}{slash}{}",
                rest.split('#').next().unwrap_or_default()
            ),
            shown: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }
}

/// The path of `http://HOST/PATH`, which every server has to accept (RFC 9112, 3.2.2).
fn path_of_url(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    match rest.find(['/', '?', '#']) {
        Some(at) if rest.get(at..)?.starts_with('/') => rest.get(at..),
        _ => Some("/"),
    }
}

/// Replaces `%HH` by the byte. Another `%` stands for itself, as in CPython.
fn decode(text: &str) -> Vec<u8> {
    let hex = |digit: Option<&u8>| {
        let digit = char::from(*digit?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [byte, rest @ ..] = bytes {
        bytes = rest;
        let escaped = (*byte == b'%').then(|| hex(rest.first()).zip(hex(rest.get(1))));
        if let Some(Some((high, low))) = escaped {
            out.push(high << 4 | low);
            bytes = rest.get(2..).unwrap_or_default();
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Takes `.`, `..` and empty parts away.
fn inside(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    if path.contains('\0') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.path.as_deref(), expected, "{text}");
        }
        check("/", Some(""));
        check("/a/b.txt", Some("a/b.txt"));
        check("/a//b/./c/", Some("a/b/c"));
        check("/a%20b?c=/../d#e", Some("a b"));
        check("/%C3%BC", Some("ü"));
        check("/%", Some("%"));
        check("/%4", Some("%4"));
        check("/%zz%41", Some("%zzA"));
        check("/%2541", Some("%41"));
        // Ways out.
        check("/..", Some(""));
        check("/../../etc/passwd", Some("etc/passwd"));
        check("/a/../../b", Some("b"));
        check("/%2e%2e/%2E%2e/b", Some("b"));
        check("/..%2f..%2fb", Some("b"));
        check("/%2fetc/passwd", Some("etc/passwd"));
        check("//etc/passwd", Some("etc/passwd"));
        check("/..\\b", Some("..\\b"));
        check("/a%00b", None);
        check("/%ff", None);
        // URLs.
        check("http://host/a/../b", Some("b"));
        check("HTTP://host", Some(""));
        check("http://host?/a", Some(""));
    }

    #[test]
    fn no_targets() {
        for text in ["", "a", "*", "host:80", "ftp://host/a", "://", "../a"] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }

    #[test]
    fn redirections() {
        #[track_caller]
        fn check(text: &str, is_directory: bool, with_slash: &str) {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.is_directory, is_directory, "{text}");
            assert_eq!(target.with_slash, with_slash, "{text}");
        }
        check("/a", false, "/a/");
        check("/a?b=/c#d", false, "/a/?b=/c");
        check("/a/", true, "/a/");
        check("/a%2f", false, "/a%2f/");
        // Never another host.
        check("//host/..", false, "/host/../");
        check("///host", false, "/host/");
        check("http://x//host", false, "/host/");
    }

    proptest! {
        #[test]
        fn no_path_leads_out(text in "/([./]|%2e|%2F|%00|a|\\PC){0,20}") {
            let target = Target::parse(&text).unwrap();
            let path = target.path.unwrap_or_default();
            let is_named = |part: &str| !matches!(part, "" | "." | "..");
            prop_assert!(path.is_empty() || path.split('/').all(is_named), "{path}");
            prop_assert!(!target.with_slash.starts_with("//"));
        }
    }
}
