//! The options.

use crate::native::Native;
use clap::Parser;
use std::path::PathBuf;

/// How fast sockserve is, beside native servers and others
///
/// A server runs on one core, the clients on another. All servers have their turn in each
/// round, and what is printed are the medians of the rounds: rates, the server's processor
/// time per operation, and ratios to a native Tokio server in the same round. Exit status:
/// 0 all was measured that can be measured here; 1 a native server or one of sockserve failed;
/// 2 wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "sockserve-benches", max_term_width = 100)]
pub(crate) struct Options {
    /// A built sockserve. By default the release profile is built
    #[arg(long, value_name = "PATH")]
    pub(crate) sockserve: Option<PathBuf>,

    /// Only this work, by its name or the part before the `/`. May be repeated
    #[arg(long, value_name = "WORK")]
    pub(crate) only: Vec<String>,

    /// Only this server, beside native. May be repeated
    #[arg(long, value_name = "SERVER")]
    pub(crate) server: Vec<String>,

    /// How often each server has its turn [default: 5, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: Option<u32>,

    /// How long a server works each time, in milliseconds [default: 1000, with --quick 60]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub(crate) time: Option<u64>,

    /// Everything in less than two minutes: short, and not exact
    #[arg(long)]
    pub(crate) quick: bool,

    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write short tables in Markdown, as docs/performance.md has them
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,

    /// Also measure the points between, and write plots as SVG
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,

    /// Measure nothing: print, and plot, what was written by --json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sockserve", "only", "server", "rounds", "time", "quick", "json", "list"])]
    pub(crate) from: Option<PathBuf>,

    /// List all work and all servers
    #[arg(long)]
    pub(crate) list: bool,

    /// Be a native server. The benchmark starts itself so
    #[arg(long, hide = true)]
    pub(crate) native_server: Option<Native>,

    /// Where the native server listens
    #[arg(long, hide = true, requires = "native_server")]
    pub(crate) native_path: Option<PathBuf>,
}

impl Options {
    /// How often each server has its turn.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// How long a server works each time, in milliseconds.
    pub(crate) fn milliseconds(&self) -> u64 {
        self.time.unwrap_or(if self.quick { 60 } else { 1000 })
    }
}

#[cfg(test)]
mod tests {
    use super::Options;
    use clap::Parser as _;

    #[test]
    fn defaults_are_those_of_the_help() {
        let check = |arguments: &[&str], rounds, milliseconds| {
            let options = Options::parse_from([&["benches"], arguments].concat());
            assert_eq!(
                (options.rounds(), options.milliseconds()),
                (rounds, milliseconds)
            );
        };
        check(&[], 5, 1000);
        check(&["--quick"], 1, 60);
        check(&["--quick", "--rounds", "3", "--time", "200"], 3, 200);
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        let check = |arguments: &[&str]| {
            let parsed = Options::try_parse_from([&["benches"], arguments].concat());
            assert!(parsed.is_err(), "{arguments:?}");
        };
        check(&["--rounds", "0"]);
        check(&["--time", "0"]);
        check(&["--from", "a", "--quick"]);
        check(&["--native-path", "a"]);
    }
}
