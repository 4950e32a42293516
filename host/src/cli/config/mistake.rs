//! What is wrong with a configuration file, and where.

use crate::text;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A file's path and its text, from which places become lines and columns.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// As it was given, on one line.
    shown: String,
    text: String,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        let shown = text::path(path).into_owned();
        Self(Arc::new(Inner { shown, text }))
    }

    pub(super) fn text(&self) -> &str {
        &self.0.text
    }

    /// The line and the column of a place, both from 1 on. A column is a character.
    pub(super) fn line_and_column(&self, at: usize) -> (usize, usize) {
        let text = self.text();
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let line_before = before.rsplit('\n').next().unwrap_or_default();
        (line, line_before.chars().count() + 1)
    }

    /// The line of a place.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_and_column(at).0
    }

    /// Makes a line of what is wrong at a place.
    pub(in crate::cli) fn said(&self, at: usize, text: &str) -> String {
        let (line, column) = self.line_and_column(at);
        format!("{}:{line}:{column}: {}", self.0.shown, text::escape(text))
    }
}

/// Whose fault a mistake is. It decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Fault {
    /// What the file says: status 2.
    File,
    /// What the system says: status 1.
    System,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Mistake {
    /// Where it is, in bytes from the begin of the file. `None` if no place can be named.
    pub(in crate::cli) at: Option<usize>,
    /// What is wrong, and what would work.
    pub(in crate::cli) text: String,
    pub(in crate::cli) fault: Fault,
}

impl Mistake {
    /// A mistake in what the file says.
    pub(in crate::cli) fn new(at: usize, text: impl Into<String>) -> Self {
        Self {
            at: Some(at),
            text: text.into(),
            fault: Fault::File,
        }
    }
}

/// All mistakes of a file, as lines; at least one.
#[derive(Debug)]
pub(in crate::cli) struct Mistakes {
    lines: Vec<String>,
    fault: Fault,
}

impl Mistakes {
    /// Sorts them by their places. `None` if there are none.
    pub(in crate::cli) fn new(source: &Source, mut all: Vec<Mistake>) -> Option<Self> {
        all.sort_by_key(|mistake| mistake.at);
        let is_of_file = |mistake: &Mistake| mistake.fault == Fault::File;
        let fault = if all.iter().any(is_of_file) {
            Fault::File
        } else {
            Fault::System
        };
        let lines: Vec<_> = all
            .iter()
            .map(|mistake| match mistake.at {
                Some(at) => source.said(at, &mistake.text),
                None => format!("{}: {}", source.0.shown, text::escape(&mistake.text)),
            })
            .collect();
        (!lines.is_empty()).then_some(Self { lines, fault })
    }

    /// A file that cannot be read.
    pub(super) fn of_reading(path: &Path, text: &str) -> Self {
        let lines = vec![format!("{}: {}", text::path(path), text::escape(text))];
        let fault = Fault::System;
        Self { lines, fault }
    }

    /// One line per mistake.
    pub(in crate::cli) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The exit status: 2 if anything in the file is wrong, and 1 if only the system
    /// refuses something.
    pub(in crate::cli) fn status(&self) -> u8 {
        match self.fault {
            Fault::File => 2,
            Fault::System => 1,
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_line_and_a_column_in_characters() {
        let source = Source::new("x.toml".as_ref(), "a = 1\n\né = 2\r\nb".to_owned());
        for (at, place) in [
            (0, (1, 1)),
            (4, (1, 5)),
            (5, (1, 6)),
            (6, (2, 1)),
            (7, (3, 1)),
            (9, (3, 2)),
            (15, (4, 1)),
            (16, (4, 2)),
            // Beyond the end, and within a character.
            (999, (4, 2)),
        ] {
            assert_eq!(source.line_and_column(at), place, "{at}");
        }
        assert_eq!(source.said(6, "a\nb"), "x.toml:2:1: a\\nb");
    }

    #[test]
    fn mistakes_are_in_the_order_of_their_places() {
        let source = Source::new("x.toml".as_ref(), "a\nb\n".to_owned());
        assert!(Mistakes::new(&source, Vec::new()).is_none());
        let of_system = Mistake {
            fault: Fault::System,
            ..Mistake::new(0, "first")
        };
        let only = Mistakes::new(&source, vec![of_system.clone()]).unwrap();
        assert_eq!(only.status(), 1);
        let both = vec![Mistake::new(2, "second"), of_system];
        let both = Mistakes::new(&source, both).unwrap();
        assert_eq!(both.status(), 2);
        assert_eq!(both.lines(), ["x.toml:1:1: first", "x.toml:2:1: second"]);
    }
}
