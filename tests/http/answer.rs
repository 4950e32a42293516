//! Answers of HTTP, as a raw client reads them.

use std::collections::BTreeMap;

use crate::harness::{Client, text};

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// The fields, by their names in lower case.
    pub(super) fields: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Reads one answer, and nothing that comes after it. One to HEAD has no body.
    #[track_caller]
    pub(super) fn read(client: &mut Client, has_body: bool) -> Answer {
        let first = client.line();
        let code = first.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3));
        let code = code.and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut fields = BTreeMap::new();
        loop {
            let line = client.line();
            let line = line.strip_suffix("\r\n").unwrap();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = fields.get("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        let body = if has_body && code != 304 {
            client.read_exact(length)
        } else {
            Vec::new()
        };
        Answer { code, fields, body }
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The lines of a listing.
    pub(super) fn entries(&self) -> Vec<String> {
        let body = String::from_utf8_lossy(&self.body);
        let lines = body.lines().filter(|line| line.starts_with("<li>"));
        lines.map(str::to_owned).collect()
    }
}

/// Asks for a path, as it is, on a connection that stays open.
#[track_caller]
pub(super) fn get(client: &mut Client, path: &str) -> Answer {
    ask(client, "GET", path)
}

#[track_caller]
pub(super) fn ask(client: &mut Client, method: &str, path: &str) -> Answer {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    Answer::read(client, method != "HEAD")
}

/// Checks that the connection is still good.
#[track_caller]
pub(super) fn check_alive(client: &mut Client) {
    let answer = get(client, "/a.txt");
    assert_eq!(
        (answer.code, text(answer.body)),
        (200, r"some text\n".to_owned())
    );
}
