//! The heads of answers, and the pages of those that are errors.

use crate::listing::escape;
use sockserve_handler::session::Queue;
use time_protocol::imf_fixdate;

/// The type of the pages that are made here.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// How an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    MovedPermanently,
    NotModified,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    UriTooLong,
    HeadTooLarge,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    /// The number.
    pub(crate) fn code(self) -> u16 {
        self.words().0
    }

    /// The number, what it is called, and what CPython explains it by.
    fn words(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Ok => (200, "OK", ""),
            Self::MovedPermanently => (301, "Moved Permanently", ""),
            Self::NotModified => (304, "Not Modified", ""),
            Self::BadRequest => (
                400,
                "Bad Request",
                "Bad request syntax or unsupported method",
            ),
            Self::NotFound => (404, "File not found", "Nothing matches the given URI"),
            Self::MethodNotAllowed => (
                405,
                "Method Not Allowed",
                "Specified method is invalid for this resource",
            ),
            Self::UriTooLong => (414, "URI Too Long", "URI is too long"),
            Self::HeadTooLarge => (
                431,
                "Request Header Fields Too Large",
                "The server is unwilling to process the request because its header fields \
                 are too large",
            ),
            Self::NotImplemented => (
                501,
                "Not Implemented",
                "Server does not support this operation",
            ),
            Self::VersionNotSupported => {
                (505, "HTTP Version Not Supported", "Cannot fulfill request")
            }
        }
    }

    /// The page of an error, as CPython's `http.server` writes it.
    pub(crate) fn page(self) -> String {
        let (code, message, explanation) = self.words();
        let (message, explanation) = (escape(message), escape(explanation));
        format!(
            "<!DOCTYPE HTML>\n<html lang=\"en\">\n    <head>\n        <meta charset=\"utf-8\">\n        \
             <title>Error response</title>\n    </head>\n    <body>\n        \
             <h1>Error response</h1>\n        <p>Error code: {code}</p>\n        \
             <p>Message: {message}.</p>\n        \
             <p>Error code explanation: {code} - {explanation}.</p>\n    </body>\n</html>\n"
        )
    }
}

/// Writes the head of an answer. No value has a line ending in it.
pub(crate) fn head(
    out: &mut Queue,
    status: Status,
    unix_seconds: u64,
    closes: bool,
    fields: &[(&str, &str)],
) {
    let (code, message, _) = status.words();
    let date = imf_fixdate(unix_seconds);
    let first = format!("HTTP/1.1 {code} {message}\r\nServer: sockserve\r\nDate: {date}\r\n");
    out.push(first.as_bytes());
    let close = closes.then_some(&("Connection", "close"));
    for (name, value) in fields.iter().chain(close) {
        out.push(format!("{name}: {value}\r\n").as_bytes());
    }
    out.push(b"\r\n");
}
