//! Requests that arrive whole or in pieces, and answers.

use super::body::MAX_SIZE_LINE;
use super::head::MAX_HEAD;
use super::*;
use proptest::prelude::*;
use std::time::Duration;
use tokio::net::UnixStream;

const TIME: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Returns what is read from a client that sends `bytes` in pieces of `piece` and
/// then closes its side: the request line and the body, or the error.
async fn read(bytes: &[u8], piece: usize) -> Result<Option<(String, Vec<u8>)>, String> {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let sending = async move {
        for piece in bytes.chunks(piece.max(1)) {
            // The reader may have given up.
            let _ = theirs.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = theirs.shutdown().await;
        theirs
    };
    // The reader drops the connection at its end: the sender may have more to send.
    let reading = async move {
        let Some(request) = request(&mut ours, TIME)
            .await
            .map_err(|error| error.to_string())?
        else {
            return Ok(None);
        };
        let line = format!("{} {}", request.method(), request.uri());
        let mut body = request.into_body();
        let mut all = Vec::new();
        while let Some(data) = body.data().await.map_err(|error| error.to_string())? {
            assert!(!data.is_empty());
            all.extend_from_slice(&data);
        }
        assert!(body.data().await.unwrap().is_none(), "the end stays");
        Ok(Some((line, all)))
    };
    tokio::join!(sending, reading).1
}

#[test]
fn requests_are_read_whole_or_in_pieces() {
    let long = "x".repeat(MAX_HEAD - 100);
    let cases = [
        ("GET /v1/status HTTP/1.1\r\n\r\n", "GET /v1/status", ""),
        ("GET /a?b=c HTTP/1.0\n\n", "GET /a?b=c", ""),
        (
            "\r\n\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\nmore",
            "GET /",
            "",
        ),
        (
            "POST / HTTP/1.1\r\ncontent-length:  3 \r\n\r\nabcd",
            "POST /",
            "abc",
        ),
        (
            "POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
            "POST /",
            "abc",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
             3\r\nabc\r\n0a ;x=y\r\n0123456789\r\n0\r\nx: y\r\n\r\nmore",
            "POST /",
            "abc0123456789",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n000\r\n\r\n",
            "POST /",
            "",
        ),
        (
            &format!("GET /{long} HTTP/1.1\r\n\r\n"),
            &format!("GET /{long}"),
            "",
        ),
    ];
    runtime().block_on(async {
        for (bytes, line, body) in cases {
            for piece in [1, 2, 7, usize::MAX] {
                let expected = Ok(Some((line.to_owned(), body.as_bytes().to_vec())));
                let read = read(bytes.as_bytes(), piece).await;
                assert!(read == expected, "{piece} {bytes:.99} {read:.99?}");
            }
        }
    });
}

#[test]
fn what_is_not_understood_is_refused() {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
    let chunked = |body: &str| post("Transfer-Encoding: chunked") + body;
    let length = "the length of the body is not understood";
    let chunk = "a chunk has no size, or does not end where it says";
    let cases = [
        ("GET /".to_owned(), "the request ends within its head"),
        (
            "GET / HTTP/1.1\r\nHost: x\r\n".to_owned(),
            "ends within its head",
        ),
        ("\x16\x03\x01\x02".to_owned(), "is not understood: "),
        ("GET /\r\n\r\n".to_owned(), "is not understood: "),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), "invalid HTTP version"),
        ("GET x y HTTP/1.1\r\n\r\n".to_owned(), "is not understood: "),
        (
            "GET http:// HTTP/1.1\r\n\r\n".to_owned(),
            "is not understood: ",
        ),
        (post("no field"), "invalid header name"),
        (post("a: b\r\n c"), "invalid header name"),
        (post("a: b\r\n".repeat(65).trim_end()), "64 header fields"),
        ("x".repeat(MAX_HEAD), "too large"),
        (post(&format!("a: {}", "x".repeat(MAX_HEAD))), "too large"),
        (post("Content-Length: -1"), length),
        (post("Content-Length: +1"), length),
        (post("Content-Length:"), length),
        (post("Content-Length: 1, 1"), length),
        (post("Content-Length: 18446744073709551616"), length),
        (post("Content-Length: 1\r\nContent-Length: 1"), length),
        (
            post("Content-Length: 1\r\nTransfer-Encoding: chunked"),
            length,
        ),
        (
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            length,
        ),
        (post("Transfer-Encoding: gzip, chunked"), length),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "HTTP/1.0 has no",
        ),
        (post("Content-Length: 3") + "ab", "it ends too early"),
        (
            post("Content-Length: 18446744073709551615") + "ab",
            "too early",
        ),
        (chunked(""), "it ends too early"),
        (chunked("3\r\nab"), "it ends too early"),
        (chunked("3\r\nabc\r\n"), "it ends too early"),
        (chunked("0\r\n"), "it ends too early"),
        (chunked("\r\n"), chunk),
        (chunked(";x\r\n"), chunk),
        (chunked("x\r\n"), chunk),
        (chunked("3\r\nabcd\r\n"), chunk),
        (chunked("ffffffffffffffff1\r\n"), chunk),
        (chunked("ffffffffffffffff\r\nabc"), "too early"),
        (chunked(&format!("3;{}", "x".repeat(MAX_SIZE_LINE))), chunk),
        (
            chunked(&format!("0\r\n{}", "a: b\r\n".repeat(20_000))),
            "what follows its last chunk",
        ),
    ];
    runtime().block_on(async {
        for (bytes, expected) in &cases {
            for piece in [113, usize::MAX] {
                let why = read(bytes.as_bytes(), piece).await.unwrap_err();
                assert!(why.contains(expected), "{bytes:.99}: {why}");
                assert!(!why.contains(char::is_control), "{why}");
            }
        }
        for bytes in ["", "\r\n\r\n"] {
            assert_eq!(read(bytes.as_bytes(), 1).await, Ok(None));
        }
    });
}

/// A client that waits before it sends the body gets `100 Continue`, and the answer
/// after that.
#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let head = b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    runtime().block_on(async {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(head).await.unwrap();
        let request = request(&mut ours, TIME).await.unwrap().unwrap();
        let mut body = request.into_body();
        assert_eq!(body.size(), Some(2));
        let mut word = [0; 25];
        let (data, ()) = tokio::join!(body.data(), async {
            theirs.read_exact(&mut word).await.unwrap();
            theirs.write_all(b"ab").await.unwrap();
        });
        assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(data.unwrap().unwrap(), "ab");
    });
}

#[test]
fn an_answer_says_how_long_it_is_and_that_it_is_the_last() {
    let taken = |method: Method| {
        runtime().block_on(async move {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            // More than a socket takes. The client reads only afterwards.
            let sending = async {
                theirs.write_all(&vec![b'x'; 4 << 20]).await.unwrap();
                theirs.shutdown().await.unwrap();
                let mut text = String::new();
                theirs.read_to_string(&mut text).await.unwrap();
                text
            };
            let status = StatusCode::CONFLICT;
            let answering = answer(&mut ours, &method, status, Kind::Json, b"{}\n", 8 << 20);
            let (answered, text) = tokio::join!(answering, sending);
            answered.unwrap();
            text
        })
    };
    let head = "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\n\
                Content-Length: 3\r\nCache-Control: no-store\r\n\
                X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
    assert_eq!(taken(Method::GET), format!("{head}{{}}\n"));
    assert_eq!(taken(Method::HEAD), head);
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused(
        start in prop::sample::select(vec![
            "",
            "POST / HTTP/1.1\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]),
        rest in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "[0-9a-f;: \r\n]{0,99}".prop_map(String::into_bytes),
        ],
        piece in 1..40_usize,
    ) {
        let bytes = [start.as_bytes(), &rest].concat();
        runtime().block_on(async {
            // The result does not depend on how the bytes arrive.
            let whole = read(&bytes, usize::MAX).await;
            assert_eq!(read(&bytes, piece).await, whole);
        });
    }
}
