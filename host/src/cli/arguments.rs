//! Clap's messages about wrong arguments, on one line.

use super::output::{self, complain};
use crate::text;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

/// The most characters of a typed value that an error shows.
const MAX_SHOWN: usize = 200;

/// Prints clap's help or version, or its refusal on one line. Returns the exit
/// status.
pub(super) fn refuse(error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let mut stdout = output::stdout();
        return match write!(stdout, "{}", error.render()).and_then(|()| stdout.flush()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("cannot print: {error}"));
                ExitCode::FAILURE
            }
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // If standard error cannot be written, there is no other place to report
        // it.
        let _ = error.print();
    } else {
        complain(&line(error, std::env::args_os().skip(1)));
    }
    ExitCode::from(2)
}

/// Returns clap's message on one line. `arguments` are the arguments of the
/// process.
fn line(error: clap::Error, arguments: impl IntoIterator<Item = OsString>) -> String {
    if error.kind() == ErrorKind::InvalidUtf8 {
        // Clap does not say which argument it is.
        let wrong = arguments.into_iter().find(|it| it.to_str().is_none());
        let wrong = wrong.unwrap_or_default();
        let shown = shorten(&text::escape_bytes(wrong.as_bytes()));
        return format!("the argument '{shown}' is not UTF-8, as it has to be here; {HELP}");
    }
    format!("{}; {HELP}", said(error))
}

/// Returns clap's message on one line, without advice to read the help.
pub(super) fn said(mut error: clap::Error) -> String {
    // Escapes the typed values first, so that the only line breaks left are clap's.
    error.remove(ContextKind::Usage);
    // After `--` a value would be an argument of the component.
    let suggested = error.get(ContextKind::Suggested);
    if let Some(ContextValue::StyledStrs(tips)) = suggested
        && tips.iter().any(|tip| tip.to_string().contains("'-- "))
    {
        error.remove(ContextKind::Suggested);
    }
    let typed: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| Some((kind, one_line(value)?)))
        .collect();
    for (kind, value) in typed {
        error.insert(kind, value);
    }
    let said = error.render().to_string();
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    let paragraphs = said.split("\n\n");
    let words = paragraphs
        .filter(|paragraph| !paragraph.starts_with("For more information"))
        .map(|paragraph| {
            let lines: Vec<_> = paragraph.lines().map(str::trim).collect();
            lines.join(" ")
        });
    let words: Vec<_> = words.collect();
    words.join("; ")
}

/// Ends each refusal.
const HELP: &str = "see sockserve --help";

/// Returns an escaped copy of a value of clap's that may have been typed. `None`
/// for other kinds of value.
fn one_line(value: &ContextValue) -> Option<ContextValue> {
    let escape = |typed: &str| shorten(&text::escape(typed));
    match value {
        ContextValue::String(typed) => Some(ContextValue::String(escape(typed))),
        ContextValue::Strings(typed) => {
            let escaped = typed.iter().map(|typed| escape(typed)).collect();
            Some(ContextValue::Strings(escaped))
        }
        ContextValue::StyledStr(styled) => {
            Some(ContextValue::StyledStr(escape(&styled.to_string()).into()))
        }
        ContextValue::StyledStrs(styled) => {
            let escaped = styled
                .iter()
                .map(|styled| escape(&styled.to_string()).into());
            Some(ContextValue::StyledStrs(escaped.collect()))
        }
        _ => None,
    }
}

/// Cuts a typed value to [`MAX_SHOWN`] characters.
fn shorten(typed: &str) -> String {
    match typed.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", typed.get(..end).unwrap_or(typed)),
        None => typed.to_owned(),
    }
}
