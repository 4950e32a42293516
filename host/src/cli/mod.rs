//! The `sockserve` command: its arguments, its signals, and what it prints.
//!
//! Standard output has the results (ready lines, lists, tables). Standard error has
//! the log and the refusals. A refusal is one line.
//!
//! Exit status: 0 done, 1 failed, 2 wrong arguments.

mod arguments;
mod builtins;
mod check;
mod compile;
mod completions;
mod componentize;
mod compose;
mod config;
mod connections;
mod control;
mod demo;
mod dev;
mod inetd;
mod inspect;
mod log;
mod man;
mod new;
mod notify;
mod open_files;
mod output;
mod output_file;
mod progress;
mod run;
mod serve;
mod signals;
mod status;
mod top;
mod watch;
mod wit;

use crate::panics;
use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, Parser, Subcommand};
use output::complain;
use signals::Caught;
use std::fmt;
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;

/// Serve sockets with WebAssembly components.
#[derive(Parser)]
#[command(name = "sockserve", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: log::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve connections with a component until told to stop.
    ///
    /// With --config it serves what a file describes, several services in one process.
    /// SIGTERM or Ctrl-C lets open connections finish, and a second one cuts them
    /// off; SIGHUP reads the component again. Exit status: 0 ended as told, also
    /// while it was starting; 1 it failed, or connections were cut off by a second
    /// signal; 2 wrong arguments.
    Serve(Box<serve::Options>),
    /// Serve the socket that is standard input, as a program of inetd, xinetd or
    /// systemd does.
    ///
    /// A connection (nowait, Accept=yes) is served, and that is all. A listener or a
    /// datagram socket (wait) is served until nothing has come for a while. Nothing is
    /// printed on standard output. If standard error is the same socket, there is no
    /// log but with --log-file. Exit status: 0 ended in order, 1 it failed, or the
    /// handler failed on the connection, 2 wrong arguments.
    Inetd(Box<inetd::Options>),
    /// Run a program that listens and connects by itself.
    ///
    /// What it may do beside its standard input and output is granted by name; a refusal
    /// says which grant would do. SIGTERM or Ctrl-C ends it. Exit status: the program's;
    /// 1 it cannot be started, 2 wrong arguments, 124 its timeout is over, 130 or 143 a
    /// signal has ended it, 134 it has trapped.
    Run(Box<run::Options>),
    /// Make a component of a core module of WASI preview 1, as compilers for C and Go write
    /// it.
    ///
    /// A program (it exports `_start`) gets the contract `command`. A library has the
    /// contract of its bindings, which are made by wit-bindgen. Prints which contract it is.
    Componentize(componentize::Options),
    /// Make a command of a handler: it listens by itself, under `wasmtime run` or
    /// `sockserve run`.
    ///
    /// The command takes --listen IP:PORT, --max-connections and --linger, and tells
    /// more with --help. It has one instance of the handler; a `blocking` one serves one
    /// connection after the other.
    Compose(compose::Options),
    /// Compile a component ahead: the file stays a component, with its code beside it.
    ///
    /// `serve --allow-precompiled` and `run --allow-precompiled` use the code if this
    /// sockserve has made it for the same kind of processor and the same options below;
    /// otherwise they compile as ever and say so.
    Compile(compile::Options),
    /// Serve a handler while you write it: build it, and after each edit build it again
    /// and swap it in.
    ///
    /// Open connections go on with the new version, if the handler hands them over; else
    /// they stay with the version before for --drain-timeout. In a folder that `sockserve
    /// new` has made it needs no arguments: they are in .sockserve/project.json, and what is
    /// given here goes before what is there.
    ///
    /// It watches the files of the folder that it is started in, but hidden ones, those
    /// that a .gitignore in that folder names, and target, node_modules and __pycache__.
    /// A file that is written again as it was is no edit. An edit during a build does not
    /// end the build; one more follows. A build that fails, or whose component is refused,
    /// leaves the version before as it is; before the first version an edit is waited for.
    /// SIGTERM and Ctrl-C end the build with all its processes, and the service as they
    /// end `serve`. Exit status: that of `serve`.
    Dev(Box<dev::Options>),
    /// Write a project of a handler: its code, a test, and what it needs of sockserve.
    ///
    /// Prints the commands that develop, build, serve and test it. Exit status: 2 for a
    /// folder that is not empty, or a contract that the language has no template for.
    New(new::Options),
    /// Serve the embedded components to real clients and check every byte.
    Demo(demo::Options),
    /// List the embedded components, or write them as files.
    Builtins(builtins::Options),
    /// Say what is wrong with a configuration file, all of it at once.
    ///
    /// Each mistake is a line on standard error, FILE:LINE:COLUMN and what would work. Every
    /// component is compiled and instantiated; nothing is bound. Prints a line per service
    /// if all is right. Exit status: 1 the system refuses something (a component that is not
    /// there or cannot start), 2 the file is wrong.
    Check(check::Options),
    /// Say what a component is and what it needs.
    Inspect(inspect::Options),
    /// Write the contracts, and the WASI interfaces that they use, as WIT files.
    Wit(wit::Options),
    /// Print a script that lets a shell complete commands and options.
    ///
    /// bash: sockserve completions bash > /etc/bash_completion.d/sockserve. zsh: to a file
    /// _sockserve in a directory of $fpath. fish: to sockserve.fish in
    /// ~/.config/fish/completions.
    Completions(completions::Options),
    /// Print the manual, or write its pages to a directory.
    ///
    /// Without a directory it is the main page, on standard output, for `man -l -`. With
    /// one it is all pages, sockserve.1 and sockserve-COMMAND.1, and prints their paths; a
    /// page that exists is replaced.
    Man(man::Options),
    /// Say how the services of a running process are.
    Status(control::StatusOptions),
    /// Show the services of a running process, live, on a terminal.
    ///
    /// Per service: connections, rates, failures, refusals, memory, versions; for the selected
    /// one all reasons and its open connections. Rates are those between two answers. If the
    /// process does not answer, that is said and it is asked again. Exit status: 0 left with
    /// q, Esc or Ctrl-C; 2 standard output is no terminal.
    Top(top::Options),
    /// Put a new version in the place of a service's handler, or other settings.
    ///
    /// With --canary it gets a share of the new connections first, and is taken back if too
    /// many of them fail. `promote` and `rollback` end that early. Exit status: 1 it was
    /// refused, and the version before serves on; 2 wrong arguments.
    Swap(Box<control::SwapOptions>),
    /// Let a canary have all new connections now.
    Promote(control::ServiceOptions),
    /// Go back to the version before, with its settings; or take a canary back.
    Rollback(control::RollbackOptions),
    /// List the open connections of a running process.
    ///
    /// Per connection: its number, service and version, for how long it is open and how long
    /// no byte was moved, bytes from and to the peer, bytes that the host holds because the
    /// peer does not take them, and its state.
    Connections(connections::Options),
    /// End open connections at once: by number, by peer, by service.
    ///
    /// With several of these, connections that fit all of them. What is not sent yet is
    /// lost. If a number is named that is not open, nothing is done.
    Kill(connections::KillOptions),
    /// Let a running process read its configuration file again, as SIGHUP does.
    ///
    /// Services are added, removed and changed; what has not changed is not touched. A
    /// handler with other options is swapped in, and open connections go on with it.
    /// Addresses are bound before others are let go. If anything is wrong nothing changes:
    /// exit status 1, and the log of the process has a line per mistake.
    Reload(control::StatusOptions),
    /// Let a service accept nothing for now; its open connections are served on.
    ///
    /// New peers wait in the backlog, and datagrams with the kernel.
    Suspend(control::ServiceOptions),
    /// Let a suspended service accept again.
    Resume(control::ServiceOptions),
    /// Let a service take no new connections and end with its last one.
    Drain(control::DrainOptions),
    /// Drain every service of a running process.
    Shutdown(control::ShutdownOptions),
}

/// How a command can fail. The kind decides the exit status.
#[derive(Debug)]
enum Failure {
    /// The arguments are wrong: status 2.
    Usage(anyhow::Error),
    /// The command did not work: status 1.
    Failed(anyhow::Error),
    /// A configuration file has mistakes, which say the status.
    Mistakes(config::Mistakes),
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }
}

impl Failure {
    /// Prints it, and returns the exit status.
    fn print(&self) -> ExitCode {
        let status = match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
            Self::Mistakes(mistakes) => {
                for line in mistakes.lines() {
                    output::refuse(line);
                }
                return ExitCode::from(mistakes.status());
            }
        };
        complain(&self.to_string());
        ExitCode::from(status)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Usage(error) | Self::Failed(error) => error,
            Self::Mistakes(mistakes) => return mistakes.fmt(f),
        };
        let mut said = error.to_string();
        for cause in error.chain().skip(1) {
            // Errors of this crate have their causes in their own text.
            let cause = cause.to_string();
            if !said.contains(&cause) {
                said = format!("{said}: {cause}");
            }
        }
        f.write_str(&said)
    }
}

/// Advice for when the system gives no thread.
const MORE_THREADS: &str = "raise the limit on processes (ulimit -u, or the pids limit of the \
                            control group)";

/// Parses the arguments of the process once more, with the keys of the process that a
/// configuration file has. What the command line says goes before what the file says.
fn with_keys_of(configuration: &config::Configuration) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let is_given = |id: &str| {
        let serve = matches.subcommand_matches("serve");
        let source = serve.and_then(|serve| serve.value_source(id));
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    };
    let keys = configuration.process_arguments(is_given);
    Cli::try_parse_from(std::env::args_os().chain(keys))
}

/// Runs the command that the arguments of the process name.
pub fn main() -> ExitCode {
    inetd::keep_quiet(std::env::args_os());
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return arguments::refuse(error),
    };
    // Before anything slow: a signal must not kill the process while it starts.
    let serves = matches!(
        cli.command,
        Command::Serve(_)
            | Command::Dev(_)
            | Command::Inetd(_)
            | Command::Run(_)
            | Command::Demo(_)
    );
    let caught = serves.then(Caught::new);
    let caught = || {
        let caught = caught.unwrap_or_else(Caught::new);
        caught
            .context("cannot watch for signals")
            .map_err(Failure::from)
    };
    let mut configuration = None;
    if let Command::Serve(options) = &cli.command
        && let Some(path) = &options.config
    {
        // Before the log: how it is written is a matter of the file.
        let read = match config::read(path) {
            Ok(read) => read,
            Err(mistakes) => return Failure::Mistakes(mistakes).print(),
        };
        cli = match with_keys_of(&read) {
            Ok(cli) => cli,
            Err(error) => return arguments::refuse(error),
        };
        configuration = Some(read);
    }
    let (default_level, writing) = match &cli.command {
        Command::Serve(_) | Command::Dev(_) | Command::Inetd(_) => {
            (LevelFilter::INFO, log::Writing::Thread)
        }
        // The demo shows what it measures; the output of its guests would hide
        // that.
        Command::Demo(_) => (LevelFilter::WARN, log::Writing::Thread),
        // What `check` and `compile` print says the same, and what `run` writes is the
        // program's.
        Command::Check(_) | Command::Compile(_) | Command::Run(_) => {
            (LevelFilter::WARN, log::Writing::Direct)
        }
        _ => (LevelFilter::INFO, log::Writing::Direct),
    };
    if let Err(error) = cli.log.open() {
        complain(&Failure::from(error).to_string());
        return ExitCode::FAILURE;
    }
    let _flushed_at_the_end = match cli.log.start(default_level, &writing) {
        Ok(flush) => flush,
        Err(error) => {
            complain(&format!(
                "cannot start the log's thread: {error}; {MORE_THREADS}"
            ));
            return ExitCode::FAILURE;
        }
    };
    panics::install_hook();
    open_files::raise_limit();
    let result = match cli.command {
        Command::Serve(options) => {
            caught().and_then(|caught| serve::run(*options, configuration, caught))
        }
        Command::Dev(options) => caught().and_then(|caught| dev::run(*options, caught)),
        Command::Inetd(options) => caught().and_then(|caught| inetd::run(options, caught)),
        Command::Run(options) => caught().and_then(|caught| run::run(options, caught)),
        Command::Demo(options) => caught().and_then(|caught| demo::run(options, caught)),
        Command::Builtins(options) => builtins::run(&options),
        Command::Compile(options) => compile::run(&options),
        Command::Componentize(options) => componentize::run(&options),
        Command::Compose(options) => compose::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::New(options) => new::run(&options),
        Command::Wit(options) => wit::run(&options),
        Command::Completions(options) => completions::run(&options, Cli::command()),
        Command::Man(options) => man::run(&options, Cli::command()),
        Command::Status(options) => control::status(&options),
        Command::Top(options) => caught().and_then(|caught| top::run(&options, caught)),
        Command::Swap(options) => control::swap(&options),
        Command::Promote(options) => control::promote(&options),
        Command::Rollback(options) => control::rollback(&options),
        Command::Connections(options) => connections::run(&options),
        Command::Kill(options) => connections::kill(&options),
        Command::Reload(options) => control::reload(&options),
        Command::Suspend(options) => control::suspend(&options),
        Command::Resume(options) => control::resume(&options),
        Command::Drain(options) => control::drain(&options),
        Command::Shutdown(options) => control::shutdown(&options),
    };
    match result {
        Ok(status) => status,
        Err(failure) => failure.print(),
    }
}
