//! The programs that people have at hand.

use std::process::Command;

use super::Site;
use crate::harness::command::run;
use crate::harness::guests::http_command;
use crate::harness::tools::have;
use crate::harness::{Guest, wasmtime};

/// Without a server: standard input is the connection. So it runs under the stock wasmtime
/// too, as any program of inetd does.
#[test]
fn a_program_answers_on_its_standard_output() {
    let site = Site::new();
    let grant = ["--dir".to_owned(), site.grant()];
    let check = |program: &std::path::Path| {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "printf 'GET /a.txt HTTP/1.1\\r\\n\\r\\nHEAD /x HTTP/1.0\\r\\n\\r\\n' | \"$0\" \"$@\"",
        ]);
        shell.arg(program).arg("run").args(&grant);
        let outcome = run(shell.arg(http_command.path()));
        assert_eq!(outcome.status, Some(0), "{outcome:#?}");
        let is_answer = |line: &&String| line.starts_with("HTTP/1.1 ") || line.contains("text");
        let answers: Vec<&str> = outcome
            .stdout
            .iter()
            .filter(is_answer)
            .map(|it| it.trim_end())
            .collect();
        let expected = [
            "HTTP/1.1 200 OK",
            "Content-Type: text/plain",
            "some text",
            "HTTP/1.1 404 File not found",
            "Content-Type: text/html; charset=utf-8",
        ];
        assert_eq!(answers, expected, "{outcome:#?}");
        assert_eq!(outcome.stderr, ["standard input 404 /x: NotFound"]);
    };
    check(env!("CARGO_BIN_EXE_sockserve").as_ref());
    wasmtime::for_each("a_program_answers_on_its_standard_output", check);
}

for_each_pair! { http, http_commands: curl_keeps_its_connection }
fn curl_keeps_its_connection(guest: Guest, dispatch: &str) {
    if !have("curl", &["--version"]) {
        return;
    }
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let url = |path: &str| format!("http://{}{path}", server.address());
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--path-as-is"]);
        run(command.args(arguments)).printed()
    };
    let connects = ["-w", "%{http_code} %{num_connects}\n"];
    let (text, missing) = (url("/a.txt"), url("/missing"));
    let said = curl(&[&connects[..], &[&text, &text]].concat());
    assert_eq!(said, ["some text", "200 1", "some text", "200 0"]);
    let none = ["-o", "/dev/null"];
    let said = curl(&[&connects[..], &none, &[&missing], &none, &[&text]].concat());
    assert_eq!(said, ["404 1", "200 0"]);
    let head = curl(&["-I", &text]);
    assert_eq!(head[0], "HTTP/1.1 200 OK");
    assert!(head.contains(&"Content-Length: 10".to_owned()), "{head:#?}");
    // It follows the redirection, and sends a body that nobody wants.
    let said = curl(&["-L", &url("/home")]);
    assert_eq!(said, ["<p>home"]);
    let body = "x".repeat(100_000);
    let said = curl(&[&connects[..], &none, &["-d", &body, &text]].concat());
    assert_eq!(said, ["405 1"]);
    let said = curl(&[&connects[..], &none, &[&url("/../secret.txt")]].concat());
    assert_eq!(said, ["404 1"]);
    server.stop().check_no_alarm();
}

for_each_pair! { http without sequential, http_commands without sequential: wrk_gets_an_answer_to_each_request }
fn wrk_gets_an_answer_to_each_request(guest: Guest, dispatch: &str) {
    if !have("wrk", &["--version"]) {
        return;
    }
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let url = format!("http://{}/a.txt", server.address());
    let outcome = run(Command::new("wrk").args(["-t", "1", "-c", "8", "-d", "1s", &url]));
    assert_eq!(outcome.status, Some(0), "{outcome:#?}");
    let said = outcome.stdout.join("\n");
    assert!(said.contains("Requests/sec:"), "{said}");
    // On a loaded machine some may be late.
    let errors = said.contains("Socket errors: ");
    let only_late = said.contains("Socket errors: connect 0, read 0, write 0, ");
    assert!(!said.contains("Non-2xx") && errors == only_late, "{said}");
    // It closes its connections as it likes, and that may be in the middle of an answer.
    server.stop();
}

for_each_pair! { http without sequential, http_commands without sequential: a_browser_shows_pages_and_listings }
fn a_browser_shows_pages_and_listings(guest: Guest, dispatch: &str) {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let Some(browser) = names.into_iter().find(|name| have(name, &["--version"])) else {
        return;
    };
    let site = Site::new();
    let server = site.serve(guest, dispatch);
    let page = |path: &str| {
        let mut command = Command::new(browser);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
        command.arg(format!(
            "--user-data-dir={}",
            site.scratch.path("profile").display()
        ));
        command.arg(format!("http://{}{path}", server.address()));
        run(&mut command).stdout.join("\n")
    };
    assert!(page("/page.html").contains("<p>hello from a page"));
    let listing = page("/some%20files");
    assert!(
        listing.contains("Directory listing for /some files/"),
        "{listing}"
    );
    assert!(listing.contains("&lt;b&gt;&amp;\"'.txt</a>"), "{listing}");
    // What it asks for by itself, as its icon, is not there.
    server.stop();
}
