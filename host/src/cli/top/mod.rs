//! `sockserve top`: the services of a running process, live on a terminal.
//!
//! It asks the control socket as `status` and `connections` do, again and again, and lives
//! until somebody quits. What is shown is made by functions without I/O: `model` is what is
//! known, `view` and `details` draw it, `text` has the numbers. `screen` is the terminal.

mod details;
mod model;
mod screen;
mod text;
mod view;

use super::Failure;
use super::control::Socket;
use super::output;
use super::signals::Caught;
use crate::control::client::{ClientError, Question, ask};
use crate::control::{ConnectionsReply, StatusReply};
use crate::limits::parse_time;
use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::future::{BoxFuture, FutureExt as _};
use model::{Action, Model};
use screen::Screen;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// The shortest time between two questions: the process has other things to do.
const LEAST: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    socket: Socket,
    /// The time between two questions, at least 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_time(text).map_err(|error| error.to_string())? {
        short if short < LEAST => Err("write at least 100ms".to_owned()),
        interval => Ok(interval),
    }
}

pub(super) fn run(options: &Options, caught: Caught) -> Result<ExitCode, Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(anyhow!(
            "top draws on a terminal, and standard output is none; for programs there is \
             `sockserve status --json`"
        )));
    }
    let Caught {
        runtime,
        mut ends,
        mut hang_ups,
    } = caught;
    // The terminal is restored on each of these ways, when `watch` is dropped.
    let status = runtime.block_on(async {
        tokio::select! {
            watched = watch(options) => watched.map(|()| 0),
            status = ends.next_status() => Ok(status),
            () = hang_ups.next() => Ok(129),
        }
    })?;
    Ok(ExitCode::from(status))
}

/// An answer of the process.
enum Answer {
    Status(Result<StatusReply, ClientError>),
    /// The open connections of this service.
    Connections(String, Result<ConnectionsReply, ClientError>),
}

/// Shows the services until somebody quits.
async fn watch(options: &Options) -> Result<(), Failure> {
    let socket = &options.socket.control;
    // A wrong path is one line, and no screen.
    let first: StatusReply = ask(socket, Question::status()).await?;
    let mut model = Model::new(socket);
    model.show(first.services, Instant::now());
    let mut screen = Screen::open(output::colours_are_wanted())
        .context("the terminal cannot be used; see whether TERM and the terminal are right")?;
    let mut ticks = tokio::time::interval(options.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and there is an answer already.
    ticks.tick().await;
    let mut asking = None;
    loop {
        if asking.is_none() {
            asking = model
                .take_wanted()
                .map(|service| ask_connections(socket, service));
        }
        screen.draw(&model, Instant::now()).context("cannot draw")?;
        tokio::select! {
            action = screen.next_action() => {
                let action = action.context("the terminal cannot be read")?;
                if action == Action::Quit {
                    return Ok(());
                }
                model.act(action);
            }
            answer = answer(&mut asking) => {
                asking = None;
                let now = Instant::now();
                match answer {
                    Answer::Status(Ok(reply)) => model.show(reply.services, now),
                    Answer::Status(Err(error)) => model.miss(&error.to_string(), now),
                    Answer::Connections(service, reply) => {
                        let connections = reply.map(|reply| reply.connections);
                        model.list(service, connections.map_err(|error| error.to_string()));
                    }
                }
            }
            // While an answer is waited for, nothing else is asked.
            _ = ticks.tick(), if asking.is_none() => asking = Some(ask_status(socket)),
        }
    }
}

/// Waits for the answer, or for ever if nothing was asked.
async fn answer(asking: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

fn ask_status(socket: &Path) -> BoxFuture<'static, Answer> {
    let socket: PathBuf = socket.to_owned();
    async move { Answer::Status(ask(&socket, Question::status()).await) }.boxed()
}

fn ask_connections(socket: &Path, service: String) -> BoxFuture<'static, Answer> {
    let socket: PathBuf = socket.to_owned();
    async move {
        let question = Question::connections(Some(&service));
        let reply = ask(&socket, question).await;
        Answer::Connections(service, reply)
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_long_enough() {
        assert_eq!(parse_interval("100ms"), Ok(LEAST));
        assert_eq!(parse_interval("1min"), Ok(Duration::from_secs(60)));
        for wrong in ["99ms", "0s", "1", "soon"] {
            assert!(parse_interval(wrong).is_err(), "{wrong}");
        }
    }
}
