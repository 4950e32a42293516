//! The lines that a composed command prints.

use crate::Transport;
use alloc::format;
use alloc::string::String;
use core::net::SocketAddr;

/// The most characters of a failure that are printed, as in the host's log.
const MAX_FAILURE: usize = 1000;

/// The name of the service: that of the command's file, without its ending.
pub fn service_name(program: Option<String>) -> String {
    let program = program.unwrap_or_default();
    let file = program.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = file.strip_suffix(".wasm").unwrap_or(file);
    let name = if name.is_empty() { "command" } else { name };
    escape(name)
}

/// The text in quotes, on one line.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", escape(text))
}

/// The text on one line. What could break the line, or look like another one, is escaped.
fn escape(text: &str) -> String {
    let is_plain = |character: char| {
        !character.is_control()
            && !matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            line.push(character);
        } else {
            line.extend(character.escape_default());
        }
    }
    line
}

/// The line that says where the command listens.
pub fn ready_line(
    transport: Transport,
    address: SocketAddr,
    service: &str,
    contract: &str,
) -> String {
    let scheme = transport.scheme();
    format!("listening {scheme}://{address} service={service} contract={contract}")
}

/// The line that says why the command does not listen. `code` is the error's name in
/// `wasi:sockets`.
pub fn listen_error_line(transport: Transport, address: SocketAddr, code: &str) -> String {
    let hint = match code {
        "access-denied" => "; grant it, with wasmtime run -S inherit-network",
        _ => "",
    };
    let scheme = transport.scheme();
    format!("cannot listen on {scheme}://{address}: {code}{hint}")
}

/// The line that says how a connection has failed.
pub fn failure_line(reason: &str, connection: u64, peer: &str) -> String {
    let said = shortened(reason);
    format!(
        "connection failed: the handler returned an error: {said} connection={connection} \
         peer={peer}"
    )
}

/// The line that says how a batch of datagrams has failed.
pub fn batch_failure_line(reason: &str) -> String {
    let said = shortened(reason);
    format!("datagrams failed: the handler returned an error: {said}")
}

fn shortened(reason: &str) -> String {
    let mut said: String = reason.chars().take(MAX_FAILURE).collect();
    if said.len() < reason.len() {
        said.push('…');
    }
    escape(&said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned as _;

    #[test]
    fn a_failure_stays_on_its_line() {
        let line = failure_line("a\nlistening \u{1b}[0m", 7, "127.0.0.1:5");
        assert_eq!(
            line,
            "connection failed: the handler returned an error: a\\nlistening \\u{1b}[0m \
             connection=7 peer=127.0.0.1:5"
        );
        let line = failure_line(&"x".repeat(2000), 7, "p");
        assert!(line.chars().count() < 1100);
    }

    #[test]
    fn a_service_has_the_name_of_its_file() {
        let name = |program: &str| service_name(Some(program.to_owned()));
        assert_eq!(name("/a/echo.wasm"), "echo");
        assert_eq!(name("echo"), "echo");
        assert_eq!(name("a\nb.wasm"), "a\\nb");
        assert_eq!(service_name(None), "command");
    }

    #[test]
    fn a_ready_line_is_as_the_hosts() {
        let line = ready_line(
            Transport::Tcp,
            SocketAddr::from(([127, 0, 0, 1], 7)),
            "echo",
            "evented",
        );
        assert_eq!(
            line,
            "listening tcp://127.0.0.1:7 service=echo contract=evented"
        );
    }
}
