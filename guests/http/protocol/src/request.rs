//! The head of a request: its first line and the fields that matter here.

use crate::response::Status;
use time_protocol::parse_imf_fixdate;

/// The longest first line, in bytes.
pub(crate) const LINE_LIMIT: usize = 8 * 1024;

/// The longest head, in bytes.
pub(crate) const HEAD_LIMIT: usize = 32 * 1024;

/// The most fields of a head.
const FIELDS_LIMIT: usize = 100;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    /// A method of HTTP that a directory has no use for.
    Other,
    /// No method of HTTP.
    Unknown,
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: String,
    /// Whether the connection ends with the answer: the peer wants that, or it is not known
    /// where the next request begins.
    pub(crate) closes: bool,
    /// How many bytes follow that are not the next request.
    pub(crate) body_length: u64,
    /// `If-Modified-Since`, unless there is `If-None-Match`.
    pub(crate) modified_since: Option<u64>,
}

/// What a beginning of the input is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// More has to come.
    Unfinished,
    /// A request, and how many bytes its head has.
    Complete(Request, usize),
    /// No request.
    Wrong(Status),
}

impl Head {
    /// Reads a head. Empty lines before it are part of it.
    pub(crate) fn parse(input: &[u8]) -> Self {
        let first_line = input.iter().take(LINE_LIMIT).position(|&it| it == b'\n');
        match first_line {
            None if input.len() < LINE_LIMIT => return Self::Unfinished,
            None => return Self::Wrong(Status::UriTooLong),
            Some(_) => {}
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_LIMIT];
        let mut request = httparse::Request::new(&mut fields);
        let too_large = Self::Wrong(Status::HeadTooLarge);
        match request.parse(input) {
            Ok(httparse::Status::Partial) if input.len() > HEAD_LIMIT => too_large,
            Ok(httparse::Status::Partial) => Self::Unfinished,
            Ok(httparse::Status::Complete(length)) if length > HEAD_LIMIT => too_large,
            Ok(httparse::Status::Complete(length)) => match Request::read(&request) {
                Some(request) => Self::Complete(request, length),
                None => Self::Wrong(Status::BadRequest),
            },
            Err(httparse::Error::TooManyHeaders) => too_large,
            Err(httparse::Error::Version) if has_other_version(input) => {
                Self::Wrong(Status::VersionNotSupported)
            }
            Err(_) => Self::Wrong(Status::BadRequest),
        }
    }
}

/// Whether the first line ends with a version of HTTP, as `HTTP/2.0`.
fn has_other_version(input: &[u8]) -> bool {
    let mut lines = input.split(|&it| it == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.split(|&it| it == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    words.next().is_none()
        && version.is_some_and(|it| it.splitn(2, |&it| it == b'.').all(is_number))
}

impl Request {
    /// `None` if a field is wrong that says where the body ends.
    fn read(request: &httparse::Request<'_, '_>) -> Option<Self> {
        let mut read = Self {
            method: match request.method? {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
                    Method::Other
                }
                _ => Method::Unknown,
            },
            target: request.path?.to_owned(),
            closes: request.version? == 0,
            body_length: 0,
            modified_since: None,
        };
        let (mut length, mut has_tag) = (None, false);
        for field in request.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let value = field.value.trim_ascii();
            if is("Content-Length") {
                let new = number(value)?;
                if length.is_some_and(|length| length != new) {
                    return None;
                }
                length = Some(new);
            } else if is("Transfer-Encoding") || is("Expect") {
                // The body is not read, or the peer waits for leave to send it.
                read.closes = true;
            } else if is("Connection") {
                let mut options = value.split(|&it| it == b',').map(<[u8]>::trim_ascii);
                read.closes |= options.any(|it| it.eq_ignore_ascii_case(b"close"));
            } else if is("If-Modified-Since") {
                let text = std::str::from_utf8(value).ok();
                read.modified_since = text.and_then(parse_imf_fixdate);
            } else if is("If-None-Match") {
                has_tag = true;
            }
        }
        if has_tag {
            read.modified_since = None;
        }
        read.body_length = length.unwrap_or_default();
        Some(read)
    }
}

/// Digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_number)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn complete(text: &str) -> Request {
        match Head::parse(text.as_bytes()) {
            Head::Complete(request, length) => {
                assert_eq!(length, text.len(), "{text:?}");
                request
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn requests() {
        let plain = Request {
            method: Method::Get,
            target: "/a?b".to_owned(),
            closes: false,
            body_length: 0,
            modified_since: None,
        };
        assert_eq!(complete("GET /a?b HTTP/1.1\r\n\r\n"), plain);
        assert_eq!(complete("\r\n\nGET /a?b HTTP/1.1\nHost: x\n\n"), plain);
        assert!(complete("GET / HTTP/1.0\r\n\r\n").closes);
        for (method, expected) in [
            ("HEAD", Method::Head),
            ("PUT", Method::Other),
            ("get", Method::Unknown),
            ("BREW", Method::Unknown),
        ] {
            assert_eq!(
                complete(&format!("{method} / HTTP/1.1\r\n\r\n")).method,
                expected
            );
        }
    }

    #[test]
    fn fields() {
        let with = |fields: &str| complete(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n"));
        assert!(with("connection: Keep-Alive, CLOSE").closes);
        assert!(!with("Connection: keep-alive").closes);
        assert!(with("Transfer-Encoding: chunked").closes);
        assert!(with("Expect: 100-continue").closes);
        assert_eq!(with("content-length: 12").body_length, 12);
        assert_eq!(
            with("Content-Length: 12\r\nContent-Length: 12").body_length,
            12
        );
        let date = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(with(date).modified_since, Some(784_111_777));
        assert_eq!(with("If-Modified-Since: yesterday").modified_since, None);
        assert_eq!(
            with(&format!("{date}\r\nIf-None-Match: \"x\"")).modified_since,
            None
        );
    }

    #[test]
    fn no_requests() {
        #[track_caller]
        fn check(text: impl AsRef<[u8]>, expected: &Head) {
            let text = text.as_ref();
            assert_eq!(&Head::parse(text), expected, "{}", text.escape_ascii());
        }
        let wrong = |status| Head::Wrong(status);
        for unfinished in [
            "",
            "\r\n",
            "GET",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n",
        ] {
            check(unfinished, &Head::Unfinished);
        }
        for bad in [
            "hello\r\n",
            "GET /\r\n",
            "GET / FTP/1.1\r\n\r\n",
            "GET / HTTP/x\r\n\r\n",
            "GET /a b HTTP/1.1\r\n\r\n",
            "G\0T / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: \r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ] {
            check(bad, &wrong(Status::BadRequest));
        }
        for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3"] {
            let version = format!("GET / {version}\r\n\r\n");
            check(version, &wrong(Status::VersionNotSupported));
        }
        check(vec![b'x'; LINE_LIMIT - 1], &Head::Unfinished);
        check(vec![b'x'; LINE_LIMIT], &wrong(Status::UriTooLong));
        let long = |count| format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(count));
        check(long(HEAD_LIMIT - 100), &Head::Unfinished);
        check(long(HEAD_LIMIT), &wrong(Status::HeadTooLarge));
        check(
            format!("{}\r\n\r\n", long(HEAD_LIMIT)),
            &wrong(Status::HeadTooLarge),
        );
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
        check(many, &wrong(Status::HeadTooLarge));
    }
}
