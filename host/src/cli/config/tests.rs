//! Files and what is said of them.

use super::{Configuration, Mistake, Source, understand};
use std::path::Path;

const PATH: &str = "/etc/x/sockserve.toml";

fn of(text: &str) -> (Configuration, Vec<Mistake>) {
    let path = Path::new(PATH);
    understand(path, Source::new(path, text.to_owned()))
}

/// The mistakes of a text as `LINE:COLUMN: WHAT`, in the order of their places.
fn said(text: &str) -> Vec<String> {
    let (configuration, mistakes) = of(text);
    let Some(mistakes) = super::Mistakes::new(&configuration.source, mistakes) else {
        return Vec::new();
    };
    let lines = mistakes.lines().iter();
    let lines = lines.map(|line| line.strip_prefix(&format!("{PATH}:")).unwrap().to_owned());
    lines.collect()
}

/// A service without a mistake, on a port of its own, and then the text.
fn with(text: &str) -> String {
    format!("[services.x]\nlisten = \"tcp://127.0.0.1:7000\"\ncomponent = \"x.wasm\"\n{text}")
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let said = said(text);
    let fits = said.len() == expected.len()
        && said
            .iter()
            .zip(expected)
            .all(|(said, expected)| said.contains(expected));
    assert!(fits, "{text}\nsaid     {said:#?}\nexpected {expected:#?}");
}

#[test]
fn a_file_becomes_arguments() {
    let text = r#"
        control = "control.sock"
        log-level = "debug"
        [defaults]
        max-connections = 0x10
        env = { A = "1", B = "two" }
        watch = true
        [services.a]
        listen = ["tcp://127.0.0.1:7000", "unix:a.sock"]
        component = "a.wasm"
        watch = false
        args = ["--of", "the component"]
        [services.b]
        listen = "tcp://127.0.0.1:7001"
        component = "builtin:echo-evented"
        max-connections = 5
        [services.b.env]
        C = "3"
    "#;
    let (configuration, mistakes) = of(text);
    assert_eq!(mistakes, []);
    let process = configuration.process_arguments(|_| false);
    assert_eq!(
        process,
        ["--control=/etc/x/control.sock", "--log-level=debug"]
    );
    let process = configuration.process_arguments(|id| id == "log_level");
    assert_eq!(process, ["--control=/etc/x/control.sock"]);
    let services: Vec<_> = configuration
        .services
        .iter()
        .map(|service| {
            let arguments = service.arguments();
            let arguments = arguments.values().flatten();
            let arguments: Vec<_> = arguments
                .map(|it| it.to_str().unwrap().to_owned())
                .collect();
            (service.name.as_str(), arguments.join(" "))
        })
        .collect();
    assert_eq!(
        services,
        [
            (
                "a",
                "--of the component /etc/x/a.wasm --env=A=1 --env=B=two \
                 --listen=tcp://127.0.0.1:7000 --listen=unix:/etc/x/a.sock --max-connections=16"
                    .to_owned()
            ),
            (
                "b",
                "builtin:echo-evented --env=C=3 --listen=tcp://127.0.0.1:7001 \
                 --max-connections=5 --watch"
                    .to_owned()
            ),
        ]
    );
    let a = &configuration.services[0].keys;
    assert_eq!(a.component, "/etc/x/a.wasm");
    assert_eq!(a.listen.len(), 2);
    assert!(!a.watch);
}

#[test]
fn two_files_can_be_compared() {
    let arguments = |text: &str| {
        let (configuration, _) = of(text);
        let service = configuration.services[0].clone();
        let arguments = service.arguments().into_iter();
        let owned = arguments.map(|(key, values)| (key.to_owned(), format!("{values:?}")));
        owned.collect::<Vec<_>>()
    };
    let plain = arguments(&with("backlog = 5\n"));
    let written_otherwise = arguments(&format!(
        "# A comment\n[defaults]\nbacklog = 0x5\n{}",
        with("")
    ));
    assert_eq!(plain, written_otherwise);
    assert_ne!(plain, arguments(&with("backlog = 6\n")));
}

#[test]
fn keys_that_are_not_known_are_said_with_the_nearest() {
    check(
        "max_connections = 5\ncontrl = \"x\"\n[default]\n[service.a]\n[a]\n[services.x]\n\
         listen = \"tcp://*:1\"\ncomponent = \"x\"\nname = \"y\"\ncontrol = \"x\"\n\
         max_connections = 5\ncolour = \"red\"\n",
        &[
            r#"1:1: unknown key "max_connections"; "#,
            r#"2:1: unknown key "contrl"; write control"#,
            r#"3:2: unknown table "default"; write [defaults]"#,
            r#"4:2: unknown table "service"; write [services.NAME]"#,
            r#"5:2: unknown table "a"; a service is a table [services.NAME]"#,
            "9:1: name is no key: the name of a service is that of its table",
            "10:1: control is a key of the process; write it at the top",
            r#"11:1: unknown key "max_connections"; write max-connections"#,
            r#"12:1: unknown key "colour"; `sockserve check --schema` has all keys"#,
        ],
    );
    check(
        &format!("listen = \"tcp://*:1\"\n{}", with("")),
        &["1:1: listen is a key of a service; write it below [services.NAME]"],
    );
}

#[test]
fn values_of_another_type_are_said_with_what_to_write() {
    let check = |value: &str, expected: &str| check(&with(value), &[expected]);
    check(
        "max-connections = \"5\"",
        "4:19: max-connections is a string, and a whole number is wanted; write max-connections = 5",
    );
    check("max-connections = \"many\"", "write max-connections = 1024");
    check("max-connections = 5.0", "is a number with a fraction");
    check(
        "max-connections = [5]",
        "without brackets: max-connections = 1024",
    );
    check("max-connections = { a = 5 }", "is a table");
    check("max-memory = 65536", "write max-memory = \"65536\"");
    check(
        "deadline = 5",
        "deadline is a whole number, and a string is wanted; it is no time: write a number and a unit",
    );
    check(
        "deadline = [\"5s\"]",
        "write one value, without brackets: deadline = \"1s\"",
    );
    check(
        "watch = \"true\"",
        "watch is a string, and true or false is wanted; write watch = true",
    );
    check("watch = \"false\"", "write watch = false");
    check("watch = 0", "write watch = true");
    check(
        "env = \"A=1\"",
        "env is a string, and a table is wanted; write env = { NAME = \"VALUE\" }",
    );
    check("env = [\"A=1\"]", "env is an array");
    check(
        "env = { A = 1 }",
        "4:13: env: A is a whole number, and a string is wanted; write A = \"1\"",
    );
    check("dispatch = true", "dispatch is a boolean");
    check("dispatch = 1979-05-27", "is a date or time");
    check("unix-mode = 660", "write unix-mode = \"660\"");
    check("args = 5", "write args = \"5\"");
}

#[test]
fn values_that_an_option_refuses_are_said_one_by_one() {
    check(
        "[services.x]\ncomponent = \"x\"\nlisten = [\n  \"tcp://127.0.0.1:7000\",\n  \"here\",\n  \
         5,\n  \"tcp://[::1]:80000\",\n]\nmax-connections = 0\nrollback-on = \"all\"\n\
         unix-mode = \"999\"\nenv = { \"\" = \"x\" }\nmax-memory = \"1\"\n",
        &[
            r#"5:3: listen = "here": `here` is no listen address"#,
            "6:3: listen is a whole number, and a string is wanted",
            r#"7:3: listen = "tcp://[::1]:80000""#,
            "9:19: max-connections = 0: 0 is not in 1..=1000000",
            r#"10:15: rollback-on = "all": it must be fault or err"#,
            r#"11:13: unix-mode = "999": write three octal digits"#,
            "12:14: env = \"=x\": `=x` is no environment variable",
            r#"13:14: max-memory = "1": it must be between 64KiB and 4GiB"#,
        ],
    );
    check(
        &with("max-connections = 99999999999999999999999999999999999999999999\n"),
        &["4:19: max-connections = 99999999999"],
    );
    check(&with("backlog = -1\n"), &["4:11: backlog = -1: "]);
    check(
        &with("args = \"a\\u0000b\"\n"),
        &["4:8: args: a zero character is in it"],
    );
}

/// Whether the system knows a group is no matter of the file.
#[test]
fn a_group_that_is_not_known_is_the_systems_fault() {
    let (configuration, mistakes) = of(&with("unix-group = \"no-such-group\"\n"));
    let mistakes = super::Mistakes::new(&configuration.source, mistakes).unwrap();
    assert_eq!(mistakes.status(), 1);
    assert!(mistakes.lines()[0].contains("getent group"), "{mistakes}");
}

#[test]
fn what_a_service_lacks_is_said_at_its_name() {
    check(
        "[services.a]\n[services.b]\ncomponent = \"x\"\nlisten = []\n",
        &[
            "1:11: the service a has no listen; write listen = \"URL\"",
            "1:11: the service a has no component; write component = \"COMPONENT\"",
            "2:11: the service b has no listen",
        ],
    );
    let none = "1:1: there is no service; write [services.NAME]";
    for text in [
        "",
        "# nothing\n",
        "[defaults]\n",
        "[services]\n",
        "log-level = \"off\"\n",
    ] {
        check(text, &[none]);
    }
    check(
        "[services.\"a b\"]\n",
        &["1:11: \"a b\": a service's name has letters"],
    );
    check(
        "[[services]]\nname = \"x\"\n",
        &["1:3: services is an array, and a table per service"],
    );
    check("services = 5\n", &["1:1: services is a whole number"]);
    check("defaults = 5\n", &["1:1: defaults is a whole number"]);
    check(
        "[services]\na = 5\n",
        &["2:1: services.a is a whole number, and a table is wanted"],
    );
}

#[test]
fn every_syntax_error_is_said() {
    check(
        "log-level = \n[services.x]\nlisten = tcp\ncomponent = \"x\"\ncomponent = \"y\"\n\
         backlog \nlinger = \"1s\" \"2s\"\n",
        &[
            "1:13: a value is missing; write one after =",
            "3:10: tcp is no value; a string stands in quotes: \"tcp\"",
            "5:1: component is there twice; write it once",
            "6:9: key with no value, expected `=`",
            "7:15: unexpected key or value, expected newline, `#`",
        ],
    );
    // What a broken line says is not known, so nothing is said to be missing.
    check(
        "[services.x]\nlisten = [\"tcp://127.0.0.1:7000\"\n",
        &["unclosed array"],
    );
    // What has nothing to do with it is said all the same.
    check(
        &format!(
            "log-level = \n{}\n[services.y]\nlisten = \"tcp://127.0.0.1:7000\"\ncomponent = \"y\"\n",
            with("")
        ),
        &[
            "1:13: ",
            "is listened on by the service x in line 3 already",
        ],
    );
}

#[test]
fn services_do_not_share_addresses_and_files() {
    let two = |first: &str, second: &str| {
        format!(
            "[services.a]\ncomponent = \"a\"\n{first}\n[services.b]\ncomponent = \"b\"\n{second}\n"
        )
    };
    let listen = |first: &str, second: &str| {
        two(
            &format!("listen = {first:?}"),
            &format!("listen = {second:?}"),
        )
    };
    let again = "6:10: tcp://[::1]:80 is listened on by the service a in line 3 already; each";
    check(&listen("tcp://[::1]:80", "tcp://[0::0:1]:80"), &[again]);
    check(
        &listen("tcp://127.0.0.1:80", "tcp://0.0.0.0:80"),
        &[
            "6:10: tcp://0.0.0.0:80 and tcp://127.0.0.1:80, which is listened on by the service a in \
           line 3, take each other's port; choose another port",
        ],
    );
    check(&listen("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"), &[]);
    check(
        &listen("unix:x", "unix:///etc/x/x"),
        &["is listened on by the service a"],
    );
    let shared = |address| format!("listen = \"tcp://{address}:80\"\nreuse-port = true");
    check(&two(&shared("0.0.0.0"), &shared("127.0.0.1")), &[]);
    check(
        &two(&shared("127.0.0.1"), &shared("127.0.0.1")),
        &["is listened on by the service a"],
    );
    check(
        "[services.a]\ncomponent = \"a\"\nlisten = [\"tcp://*:80\", \"tcp://*:80\"]\n",
        &["3:25: tcp://*:80 is listened on in line 3 already"],
    );
    check(
        "[defaults]\nlisten = \"tcp://127.0.0.1:80\"\ncomponent = \"x\"\n[services.a]\n[services.b]\n",
        &["2:10: tcp://127.0.0.1:80 is listened on by the service a in line 2 already"],
    );
    let state = |port| format!("listen = \"tcp://127.0.0.1:{port}\"\nstate-file = \"state\"");
    check(
        &two(&state(1), &state(2)),
        &["8:1: state-file: the service a keeps its state there; give each service a file"],
    );
    check(
        &format!("control = \"c\"\n{}", listen("unix:c", "unix:d")),
        &["4:10: unix:///etc/x/c is the control socket; choose another path"],
    );
}

#[test]
fn five_mistakes_are_five_lines() {
    check(
        &format!(
            "contrl = \"x\"\n[defaults]\nlinger = 5\n{}watch = 1\ndeadline = \"0s\"\n[services.y]\n\
             listen = \"tcp://127.0.0.1:7001\"\n",
            with("")
        ),
        &[
            "1:1: ",
            "3:10: ",
            "7:9: ",
            "8:12: ",
            "9:11: the service y has no component",
        ],
    );
}

/// Text that is no configuration at all is refused, in time and without a panic.
#[test]
fn any_text_is_refused() {
    for text in [
        "\0",
        "[",
        "]",
        "=",
        "\"",
        "[[[[",
        "a.b.c.d",
        "\u{feff}",
        "{}",
        "[services.x.y.z]",
    ] {
        assert!(!said(text).is_empty(), "{text}");
    }
    assert!(!said(&"[".repeat(50_000)).is_empty());
    assert!(!said(&format!("a = {}", "[".repeat(50_000))).is_empty());
    assert!(!said(&format!("a{} = 1", ".a".repeat(50_000))).is_empty());
}

proptest::proptest! {
    /// Each mistake is one line with a place, whatever the text is.
    #[test]
    fn a_mistake_is_a_line(text in "(\\[services\\.x\\]\n|listen = |\"tcp://\\*:1\"|[a-z]{1,3}|[\\[\\]{}=,.\"'\n# 0-9é\0]){0,20}") {
        for line in said(&text) {
            assert!(line.starts_with(|c: char| c.is_ascii_digit()), "{line}");
            assert!(line.chars().all(crate::text::is_plain), "{line}");
        }
    }
}
