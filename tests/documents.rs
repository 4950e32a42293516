//! `docs/socketserver.md`: each test that it names is there, each of its rows says what
//! shows it, and nothing is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::harness::command::sockserve;

/// What begins the names of tests that are not in `tests/`, and where those are.
const CRATES: [(&str, &str); 2] = [
    ("sockserve", "host/src"),
    ("time_protocol", "guests/time/protocol/src"),
];

/// What the rows of each table have to name.
const REQUIRED: [(&str, &str); 6] = [
    (
        "The systems",
        "E1 E2 E3 E4 E5 E6 T1 T2 T3 T4 T5 T6 T7 C1 C2 C3 C4 C5 C6 R1 R2 R3 R4 H1 K1 K2 K3 K4",
    ),
    (
        "The socketserver module",
        "S1 S2 S3 S4 S5 S6 S7 S8 S9 TCPServer UDPServer UnixStreamServer UnixDatagramServer \
         ForkingMixIn ThreadingMixIn max_children block_on_close daemon_threads fileno \
         handle_request serve_forever service_actions shutdown server_close address_family \
         RequestHandlerClass server_address socket allow_reuse_address allow_reuse_port \
         request_queue_size socket_type timeout max_packet_size finish_request get_request \
         handle_error handle_timeout process_request server_activate server_bind verify_request \
         shutdown_request close_request BaseRequestHandler StreamRequestHandler \
         DatagramRequestHandler setup handle finish request client_address server rfile wfile \
         disable_nagle_algorithm",
    ),
    (
        "The socket module",
        "socket bind listen accept connect connect_ex create_connection send sendall recv sendto \
         recvfrom shutdown close getsockname getpeername settimeout setdefaulttimeout setblocking \
         setsockopt getsockopt SO_SNDBUF SO_RCVBUF SO_KEEPALIVE IP_TTL SO_REUSEADDR TCP_NODELAY \
         AF_INET AF_INET6 AF_UNIX has_ipv6 getaddrinfo gethostbyname gethostbyname_ex \
         gethostbyaddr getnameinfo getfqdn gethostname getservbyname getservbyport getprotobyname \
         inet_aton inet_ntoa inet_pton inet_ntop htonl htons ntohl ntohs fromfd socketpair \
         makefile sendfile fileno ioctl MSG_PEEK MSG_OOB MSG_DONTROUTE error herror gaierror \
         timeout EAI_ADDRFAMILY EAI_AGAIN EAI_BADFLAGS EAI_FAIL EAI_FAMILY EAI_MEMORY EAI_NODATA \
         EAI_NONAME EAI_SERVICE EAI_SOCKTYPE EAI_SYSTEM",
    ),
    (
        "The select module",
        "select readers writers exceptions poll register modify unregister POLLIN POLLPRI POLLOUT \
         POLLERR POLLHUP POLLNVAL",
    ),
    (
        "The asyncore module",
        "loop timeout use_poll count handle_accept handle_accepted handle_connect handle_read \
         handle_write handle_close handle_expt handle_error readable writable",
    ),
    (
        "The asynchat module",
        "set_terminator get_terminator collect_incoming_data found_terminator push \
         push_with_producer discard_buffers close_when_done simple_producer",
    ),
];

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn document() -> String {
    std::fs::read_to_string(project("docs/socketserver.md")).unwrap()
}

/// A row of a table.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    /// The heading above the table.
    section: &'a str,
    what: &'a str,
    here: &'a str,
    shown_by: &'a str,
}

/// The rows of all tables with the heading `what | here | shown by`.
#[track_caller]
fn rows(document: &str) -> Vec<Row<'_>> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        let Some(cells) = line.strip_prefix("| ") else {
            continue;
        };
        let cells = cells.strip_suffix(" |").unwrap_or(cells);
        let cells: Vec<_> = cells.split(" | ").collect();
        let [what, here, shown_by] = cells[..] else {
            panic!("a row has three cells: {line}");
        };
        if what != "what" && what != "---" {
            rows.push(Row {
                section,
                what,
                here,
                shown_by,
            });
        }
    }
    rows
}

/// The texts between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The tests that a cell names. An error says how the cell is wrong.
fn tests(shown_by: &str) -> Result<Vec<&str>, String> {
    let list = match shown_by.strip_prefix("not here") {
        Some("") => return Ok(Vec::new()),
        Some(rest) => rest.strip_prefix(": ").ok_or("not here, and what?")?,
        None if shown_by == "—" => return Ok(Vec::new()),
        None => shown_by,
    };
    let name = |item: &'_ str| {
        let inner = item.strip_prefix('`')?.strip_suffix('`')?;
        (inner.contains("::") && !inner.contains('`')).then_some(())
    };
    match list.split(", ").find(|item| name(item).is_none()) {
        Some(wrong) => Err(format!("no test, and none of the fixed words: {wrong}")),
        None => Ok(quoted(list).collect()),
    }
}

/// Looks for a test. An error says what is not there.
fn find(test: &str) -> Result<(), String> {
    let parts: Vec<_> = test.split("::").collect();
    let (function, modules) = parts.split_last().unwrap();
    let elsewhere = CRATES.iter().find(|(name, _)| *name == modules[0]);
    let (modules, directory) = match elsewhere {
        Some((_, directory)) => (&modules[1..], *directory),
        None => (modules, "tests"),
    };
    if elsewhere.is_none() {
        let main = std::fs::read_to_string(project("tests/main.rs")).unwrap();
        let declared = format!("\nmod {};\n", modules[0]);
        if !main.contains(&declared) {
            return Err(format!("tests/main.rs has no module {}", modules[0]));
        }
    }
    let module = modules.join("/");
    let mut source = None;
    for file in [format!("{module}.rs"), format!("{module}/mod.rs")] {
        source = source.or_else(|| std::fs::read_to_string(project(directory).join(file)).ok());
    }
    match source {
        None => Err(format!("no file for the module {module} in {directory}")),
        Some(source) if has_test(&source, function) => Ok(()),
        Some(_) => Err(format!("{directory}/{module} has no test {function}")),
    }
}

/// Whether a source has a test of this name, with `#[test]` or by `for_each_pair!`.
fn has_test(source: &str, function: &str) -> bool {
    let is_head = |line: &&str| line.trim_start().starts_with(&format!("fn {function}("));
    let Some(at) = source.lines().position(|line| is_head(&line)) else {
        return false;
    };
    let before: Vec<_> = source.lines().take(at).collect();
    let above = before.iter().rev().map(|line| line.trim());
    let mut above = above.take_while(|line| line.starts_with("//") || line.starts_with("#["));
    if above.any(|line| line == "#[test]") {
        return true;
    }
    // The list of pairs may take several lines.
    let words: Vec<_> = source.split_whitespace().collect();
    words.join(" ").contains(&format!(": {function} }}"))
}

#[test]
fn each_row_is_shown_by_tests_that_are_there() {
    let document = document();
    let mut wrong = Vec::new();
    for row in rows(&document) {
        match tests(row.shown_by) {
            Err(error) => wrong.push(format!("{}: {error}", row.what)),
            Ok(named) => {
                let missing = named.iter().filter_map(|test| find(test).err());
                wrong.extend(missing.map(|error| format!("{}: {error}", row.what)));
            }
        }
        // What is not finished is not for readers, and they do not see the mark of it.
        if [row.what, row.here, row.shown_by]
            .iter()
            .any(|cell| cell.contains("<!--"))
        {
            wrong.push(format!("{}: a mark", row.what));
        }
        // The reason, or what one does instead.
        if row.here.split_whitespace().count() < 2 && tests(row.shown_by) == Ok(Vec::new()) {
            wrong.push(format!("{}: no reason", row.what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_name_has_a_row() {
    let document = document();
    let rows = rows(&document);
    let mut lacking = Vec::new();
    for (section, names) in REQUIRED {
        let mut there = BTreeSet::new();
        for row in rows.iter().filter(|row| row.section == section) {
            there.extend(quoted(row.what));
            // An id, or a row of several words.
            there.extend(row.what.split(' '));
            // What `loop` takes has no rows of its own.
            if row.what == "`loop`" {
                there.extend(quoted(row.here));
            }
        }
        let names = names.split_whitespace();
        let lacks = names.filter(|name| !there.contains(name));
        lacking.extend(lacks.map(|name| format!("{section}: {name}")));
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
    for row in &rows {
        let is_known = REQUIRED.iter().any(|(section, _)| *section == row.section);
        assert!(is_known, "a table under another heading: {row:?}");
    }
}

/// Options are those that commands have, and links lead to files.
#[test]
fn what_the_document_refers_to_is_there() {
    let document = document();
    let mut known = String::new();
    for command in ["serve", "inetd", "run", "swap"] {
        known += &sockserve([command, "--help"]).printed().join("\n");
    }
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let known: BTreeSet<_> = known.split(|letter| !is_part(letter)).collect();
    let used = document.split(|letter: char| !is_part(letter));
    let used = used.filter(|word| word.starts_with("--") && word.len() > 3);
    let wrong: Vec<_> = used.filter(|word| !known.contains(word)).collect();
    assert!(wrong.is_empty(), "no such options: {wrong:?}");

    let links = document.split("](").skip(1);
    let links: Vec<_> = links.filter_map(|rest| rest.split(')').next()).collect();
    assert!(!links.is_empty());
    for link in links {
        let path = link.split('#').next().unwrap();
        assert!(project("docs").join(path).exists(), "{link}");
    }
}

#[test]
fn a_cell_names_tests_or_has_a_fixed_word() {
    let check = |cell: &str, expected: Option<&[&str]>| {
        assert_eq!(tests(cell).ok().as_deref(), expected, "{cell}");
    };
    check("`a::b`", Some(&["a::b"]));
    check("`a::b`, `a::c::d`", Some(&["a::b", "a::c::d"]));
    check("not here", Some(&[]));
    check("not here: `a::b`", Some(&["a::b"]));
    check("—", Some(&[]));
    for wrong in [
        "",
        "a::b",
        "`b`",
        "`a::b` `a::c`",
        "`a::b`,",
        "no",
        "not here `a::b`",
        "`a::b` <!-- pending -->",
        "not here <!-- pending -->",
    ] {
        check(wrong, None);
    }
}

#[test]
fn a_test_is_found_in_each_of_its_forms() {
    const SOURCE: &str = "
        #[test]
        /// Text.
        fn plain() {}
        for_each_pair! { echo: one_line }
        // From: nowhere.
        fn one_line(guest: Guest) {}
        for_each_pair! {
            echo [blocking_threaded, evented_poll]:
            more_lines
        }
        fn more_lines(guest: Guest) {}
        #[track_caller]
        fn helper() {}
        for_each_pair! { echo: without }
    ";
    let found = |function| has_test(SOURCE, function);
    assert_eq!(["plain", "one_line", "more_lines"].map(found), [true; 3]);
    assert_eq!(["helper", "without", "plai", "echo"].map(found), [false; 4]);
}

/// An option that a guide names is one of some command's.
#[test]
fn the_guides_name_options_that_are_there() {
    let commands = [
        "serve",
        "inetd",
        "run",
        "new",
        "compile",
        "componentize",
        "compose",
        "dev",
        "status",
        "top",
        "swap",
        "rollback",
        "kill",
        "drain",
        "check",
    ];
    let help: String = commands
        .into_iter()
        .flat_map(|command| sockserve([command, "--help"]).printed())
        .map(|line| line + " ")
        .collect();
    let is_letter = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    for guide in [
        "docs/handlers.md",
        "docs/operating.md",
        "docs/swapping.md",
        "README.md",
    ] {
        let text = std::fs::read_to_string(project(guide)).unwrap();
        let words = text.split(|letter| !is_letter(letter));
        let is_option = |word: &&str| {
            let name = word.strip_prefix("--");
            name.is_some_and(|name| name.starts_with(|first| first != '-'))
        };
        let options: BTreeSet<_> = words.filter(is_option).collect();
        assert!(options.len() > 3, "{guide}: {options:?}");
        for option in options {
            let is_there = help
                .split(|letter| !is_letter(letter))
                .any(|word| word == option);
            assert!(is_there, "{guide} names {option}");
        }
    }
}
