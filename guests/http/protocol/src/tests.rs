use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use sockserve_handler::session::Resume as _;
use sockserve_handler::session::testing::{self, Seen};
use std::collections::BTreeMap;

/// Files in memory. A file is its bytes and a place.
#[derive(Clone, Debug)]
struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Store for Files {
    type File = (Vec<u8>, usize);

    fn look(&self, path: &str) -> io::Result<Entry> {
        let entry = |kind, length: usize| Entry {
            kind,
            length: length as u64,
            modified: 1_000_000_000,
        };
        if let Some(bytes) = self.0.get(path) {
            // It is shorter than it says.
            let more = if path == "shrinks" { 10 } else { 0 };
            return Ok(entry(Kind::File, bytes.len() + more));
        }
        let is_directory = |name: &&&str| path.is_empty() || name.starts_with(&format!("{path}/"));
        match self.0.keys().find(is_directory) {
            Some(_) => Ok(entry(Kind::Directory, 0)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&self, path: &str, offset: u64) -> io::Result<Self::File> {
        let bytes = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok((bytes.clone(), usize::try_from(offset).unwrap()))
    }

    fn read((bytes, place): &mut Self::File, buffer: &mut [u8]) -> io::Result<usize> {
        // Fewer bytes than are asked for, as a system may give.
        let rest = &bytes[*place..];
        let count = rest.len().min(buffer.len()).min(1000);
        buffer[..count].copy_from_slice(&rest[..count]);
        *place += count;
        Ok(count)
    }

    fn list(&self, path: &str, limit: usize) -> io::Result<Vec<Listing>> {
        let inside = self
            .0
            .keys()
            .filter_map(|name| name.strip_prefix(&format!("{path}/")));
        let names = inside.map(|name| Listing {
            name: name.to_owned(),
            is_directory: false,
            is_link: false,
        });
        Ok(names.take(limit).collect())
    }
}

fn protocol() -> HttpProtocol<Files> {
    let large = (0..200_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    HttpProtocol {
        store: Files(BTreeMap::from([
            ("index.html", b"<p>home".to_vec()),
            ("a.txt", b"text\n".to_vec()),
            ("dir/b", b"b".to_vec()),
            ("dir/c<", b"c".to_vec()),
            ("empty", Vec::new()),
            ("large", large),
            ("shrinks", b"short".to_vec()),
        ])),
        clock: || 1_795_286_107,
    }
}

fn talk(chunks: Vec<Vec<u8>>, moves: Vec<(usize, bool)>) -> Seen {
    testing::run(&protocol(), chunks, moves).unwrap()
}

fn answer(input: &str) -> (String, Vec<String>) {
    let seen = talk(vec![input.into()], vec![]);
    (String::from_utf8(seen.written).unwrap(), seen.log)
}

/// The lines of a head without those that are always the same, and the body.
#[track_caller]
fn check(input: &str, head: &[&str], body: &str) {
    let (answer, _) = answer(input);
    let (found, rest) = answer.split_once("\r\n\r\n").unwrap();
    let always = |line: &&str| {
        *line != "Server: sockserve" && *line != "Date: Sat, 21 Nov 2026 18:35:07 GMT"
    };
    let lines: Vec<&str> = found.split("\r\n").collect();
    assert_eq!(lines.iter().copied().filter(|it| !always(it)).count(), 2);
    let lines: Vec<&str> = lines.into_iter().filter(always).collect();
    assert_eq!(lines, head, "{input:?}");
    assert_eq!(rest, body, "{input:?}");
}

const MODIFIED: &str = "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT";

#[test]
fn files() {
    let text = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/plain",
        "Content-Length: 5",
        MODIFIED,
    ];
    check("GET /a.txt HTTP/1.1\r\n\r\n", &text, "text\n");
    check("GET /dir/../%61.txt?x HTTP/1.1\r\n\r\n", &text, "text\n");
    check("HEAD /a.txt HTTP/1.1\r\n\r\n", &text, "");
    let closing = [&text[..], &["Connection: close"]].concat();
    check("GET /a.txt HTTP/1.0\r\n\r\n", &closing, "text\n");
    let empty = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/octet-stream",
        "Content-Length: 0",
        MODIFIED,
    ];
    check("GET /empty HTTP/1.1\r\n\r\n", &empty, "");
    let index = [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html",
        "Content-Length: 7",
        MODIFIED,
    ];
    check("GET / HTTP/1.1\r\n\r\n", &index, "<p>home");
}

#[test]
fn what_is_not_changed_is_not_sent() {
    let since = |date: &str| format!("GET /a.txt HTTP/1.1\r\nIf-Modified-Since: {date}\r\n\r\n");
    for date in [
        "Sun, 09 Sep 2001 01:46:40 GMT",
        "Sun, 09 Sep 2001 01:46:41 GMT",
    ] {
        check(&since(date), &["HTTP/1.1 304 Not Modified", MODIFIED], "");
    }
    for date in ["Sun, 09 Sep 2001 01:46:39 GMT", "never"] {
        assert!(answer(&since(date)).0.ends_with("text\n"));
    }
}

#[test]
fn directories() {
    let moved = [
        "HTTP/1.1 301 Moved Permanently",
        "Location: /dir/?x",
        "Content-Length: 0",
    ];
    check("GET /dir?x HTTP/1.1\r\n\r\n", &moved, "");
    let (page, log) = answer("GET /dir/ HTTP/1.1\r\n\r\n");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("\r\nContent-Length: {}", body.len())),
        "{head}"
    );
    assert!(
        head.contains("\r\nContent-Type: text/html; charset=utf-8"),
        "{head}"
    );
    assert!(
        body.contains("<li><a href=\"c%3C\">c&lt;</a></li>\n"),
        "{body}"
    );
    assert_eq!(log, [""; 0]);
}

#[test]
fn errors() {
    #[track_caller]
    fn check(input: &str, status: &str, closes: bool, log: &str) {
        // Whether the next request is answered says whether it closes.
        let next = "GET /a.txt HTTP/1.1\r\n\r\n";
        let (answer, logged) = answer(&format!("{input}{next}"));
        let first = answer.lines().next().unwrap();
        assert_eq!(first, format!("HTTP/1.1 {status}"), "{input:?}");
        assert_eq!(!answer.ends_with("text\n"), closes, "{input:?}");
        assert_eq!(
            answer.contains("\r\nConnection: close\r\n"),
            closes,
            "{input:?}"
        );
        assert_eq!(logged, [format!("127.0.0.1:5000 {log}")], "{input:?}");
    }
    let not_found = "404 File not found";
    check(
        "GET /x HTTP/1.1\r\n\r\n",
        not_found,
        false,
        "404 /x: NotFound",
    );
    check(
        "HEAD /x HTTP/1.1\r\n\r\n",
        not_found,
        false,
        "404 /x: NotFound",
    );
    check(
        "GET /a.txt/ HTTP/1.1\r\n\r\n",
        not_found,
        false,
        "404 /a.txt/: NotADirectory",
    );
    check(
        "GET /%00 HTTP/1.1\r\n\r\n",
        not_found,
        false,
        "404 /%00: InvalidInput",
    );
    let allowed = "405 Method Not Allowed";
    check(
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\r\n",
        allowed,
        false,
        "405 /",
    );
    check(
        "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        allowed,
        true,
        "405 /x",
    );
    check(
        "BREW / HTTP/1.1\r\n\r\n",
        "501 Not Implemented",
        false,
        "501 /",
    );
    check(
        "GET a.txt HTTP/1.1\r\n\r\n",
        "400 Bad Request",
        false,
        "400 a.txt",
    );
    check("\u{1b}[2J\r\n", "400 Bad Request", true, "400 \\u{1b}[2J");
    let version = "505 HTTP Version Not Supported";
    check(
        "GET / HTTP/2.0\r\n\r\n",
        version,
        true,
        "505 GET / HTTP/2.0",
    );
    assert!(
        answer("PUT / HTTP/1.1\r\n\r\n")
            .0
            .contains("\r\nAllow: GET, HEAD\r\n")
    );
}

#[test]
fn requests_are_answered_in_order() {
    let many = "GET /a.txt HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET /dir/b HTTP/1.1\r\n\r\n";
    let (whole, _) = answer(many);
    assert_eq!(whole.matches("HTTP/1.1 200 OK").count(), 3);
    assert!(whole.ends_with("\r\n\r\nb"));
    // The same in the smallest pieces.
    let bytes = many.bytes().map(|byte| vec![byte]).collect();
    assert_eq!(talk(bytes, vec![]).written, whole.as_bytes());
    // Empty lines between them are nothing.
    let spaced = many.replace("\r\n\r\n", "\r\n\r\n\r\n\n\r\n");
    assert_eq!(answer(&spaced).0, whole);
    // Nothing follows an answer that closes.
    let closed = many.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    assert_eq!(answer(&closed).0.matches("HTTP/1.1 200 OK").count(), 1);
}

/// What is refused for its length is refused as soon as it is too long.
#[test]
fn a_long_head_is_refused_while_it_comes() {
    #[track_caller]
    fn check(start: &str, length: usize, code: &str) {
        let mut session = protocol()
            .session(|| Ok(([127, 0, 0, 1], 5000).into()))
            .unwrap();
        let mut output = Output::default();
        let bytes = start.bytes().chain(std::iter::repeat(b'x'));
        for byte in bytes.take(length - 1) {
            assert_eq!(session.receive(&[byte], &mut output), Step::Continue);
            assert!(output.bytes.is_empty());
        }
        assert_eq!(session.receive(b"x", &mut output), Step::Close);
        let answer = output.bytes.take();
        assert!(answer.starts_with(format!("HTTP/1.1 {code} ").as_bytes()));
    }
    check("GET /", request::LINE_LIMIT, "414");
    check("GET / HTTP/1.1\r\nA: ", request::HEAD_LIMIT + 1, "431");
}

#[test]
fn a_large_file_is_never_whole_in_memory() {
    let mut talk = sockserve_handler::session::Conversation::open(
        protocol()
            .session(|| Ok(([127, 0, 0, 1], 5000).into()))
            .unwrap(),
    );
    talk.receive(b"GET /large HTTP/1.1\r\n\r\n");
    let mut total = 0;
    while !talk.output.bytes.is_empty() {
        let count = talk.output.bytes.take().len();
        assert!(count < 2 * PIECE);
        total += count;
        talk.add_more();
    }
    assert!(total > 800_000);
}

#[test]
fn a_file_that_shrinks_ends_the_connection() {
    let (answer, log) = answer("GET /shrinks HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nshort"), "{answer}");
    assert_eq!(
        log,
        ["127.0.0.1:5000 /shrinks has become shorter while it was sent"]
    );
}

#[test]
fn a_file_that_has_changed_is_not_gone_on_with() {
    #[track_caller]
    fn check(path: &str, offset: u64, length: u64, modified: u64, expected: Step) {
        let mut session = protocol()
            .session(|| Ok(([127, 0, 0, 1], 5000).into()))
            .unwrap();
        let body = BodyState {
            path: path.to_owned(),
            offset,
            length,
            modified,
            closes: false,
        };
        let state = State {
            body: Some(body),
            ..State::default()
        };
        assert_eq!(
            session.restore(state, &mut Output::default()),
            expected,
            "{path}"
        );
    }
    check("a.txt", 2, 5, 1_000_000_000, Step::Continue);
    check("a.txt", 2, 6, 1_000_000_000, Step::Close);
    check("a.txt", 2, 5, 1_000_000_001, Step::Close);
    check("a.txt", 5, 5, 1_000_000_000, Step::Close);
    check("gone", 0, 5, 1_000_000_000, Step::Close);
    check("dir", 0, 0, 1_000_000_000, Step::Close);
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just("GET /large HTTP/1.1\r\n\r\n"),
        Just("GET /a.txt HTTP/1.1\r\n\r\n"),
        Just("GET /x HTTP/1.1\r\n\r\n"),
        Just("HEAD /dir/ HTTP/1.1\r\n\r\n"),
        Just("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n123456789"),
        Just("GET / HTTP/1.0\r\n\r\n"),
        Just("GET"),
    ]
    .prop_map(Vec::from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_hand_over_changes_nothing(
        requests in vec(request(), 0..5),
        size in 1_usize..60,
        moves in vec((1_usize..100_000, any::<bool>()), 0..40),
    ) {
        let chunks: Vec<Vec<u8>> = requests.concat().chunks(size).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(talk(chunks.clone(), moves), talk(chunks, vec![]));
    }

    #[test]
    fn no_input_is_too_strange(
        chunks in vec(vec(any::<u8>(), 0..100), 0..10),
        path in "\\PC{0,20}",
        numbers in any::<(u64, u64, u64, u64)>(),
    ) {
        talk(chunks.clone(), vec![]);
        let (skipped, offset, length, modified) = numbers;
        let body = Some(BodyState { path, offset, length, modified, closes: false });
        let mut session = protocol().session(|| Ok(([127, 0, 0, 1], 5000).into())).unwrap();
        let mut output = Output::default();
        session.restore(State { unread: chunks.concat(), skipped, body }, &mut output);
        session.add_more(&mut output);
    }
}
