//! The integration tests: the real binary over loopback, as peers and operators
//! meet it.
//!
//! One file per subject. `harness` starts the binary and wraps its clients.
//!
//! A test of several guests or dispatches is a function that takes a pair of them.
//! `for_each_pair!` makes one test per pair from it, for example
//! `echo::hello_greets_and_closes::evented_poll`; see `harness/pairs.rs`.
//!
//! A test that came from a fault says so in a line `// From: `. It names a commit of
//! this repository, a number of the review of 2026-11-25, or a case. The cases are
//! faults that were collected on that day: 1 to 53 from public reports about other
//! servers, 61 to 66 from an attack on this one.
//!
//! All tests keep to these rules:
//!
//! - Every listener is on port 0, and its address comes from the ready line.
//! - Every read, write and wait has a deadline ([`harness::PATIENCE`]), which is
//!   there to fail a test and not to time anything.
//! - Nothing sleeps to wait for something: a test waits for bytes, for a line of
//!   the log, or for an exit.
//! - What must not be in the log is looked for after the server has ended, when
//!   the log is complete.
#![deny(
    dead_code,
    reason = "every guest, and every pair of a guest and a dispatch, is driven by some test"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[macro_use]
mod harness;

// Who may come in, and when a service ends by itself.
mod admission;
// Sockets of another program: systemd's activation, inetd, xinetd, sd_notify.
mod activation;
// What arguments come to: the exit status, and one line that cannot be forged.
mod arguments;
// `--cache`: a known component is not compiled again.
mod cache;
// What is in such a cache, and who may put it there.
mod cache_entries;
// `swap --canary`: a share of the new connections first.
mod canary;
// The chat family: joins, messages, leaves, and members that do not read.
mod chat;
// What `builtins`, `inspect` and `--help` print, and the two formats of the log.
mod cli;
// Every embedded component under `nc` and `socat`.
mod clients;
// A clock that is far from the truth.
mod clocks;
mod commands;
// `sockserve compile`, what is compiled again, and what large instances cost.
mod compile;
// `sockserve componentize`: from a module of WASI preview 1 to a component.
mod componentize;
// Handlers as commands that listen by themselves.
mod composed;
// `sockserve.toml`: several services of one process, and `sockserve check`.
mod config;
// The control socket: requests and answers, `--watch`, SIGHUP, `shutdown`.
mod control;
// The counter, which is written with the SDK alone.
mod counter;
// Datagrams: what comes, what goes back, to whom, and what is dropped.
// What is seen of open connections, and how they are ended from outside.
mod connections;
mod datagrams;
// `sockserve demo`, with few clients.
mod demo;
// `sockserve dev`: a build and a swap after each edit.
mod dev;
// The documents name tests that exist, and all that they have to name.
mod documents;
// The echo family, in each of its modes.
mod echo;
// Few descriptors, or none left: peers wait.
mod exhaustion;
// Guests that trap, spin, hoard, leak, or use what they have in strange ways.
mod faults;
// Live connections that go on while versions change.
mod hand_over;
// Peers that reset, stall or send noise, and what is counted of them.
mod hostile;
// Text of peers that would look like something else in the log.
mod hostile_text;
// The HTTP server: files, listings, wrong requests, and ways out of its directory.
mod http;
// `--user` and `--group`: the process gives root up.
mod identity;
// Imports that the host does not have.
mod imports;
// What a component's path may name: files, pipes, nothing else.
mod input;
// The key-value store, which all connections of an instance share.
mod kv;
// Who may come in, what has failed, and work from time to time.
mod life_cycle;
// How a service ends: the signals, the drain, its timeout.
mod lifecycle;
// What listeners and accepted sockets are set to.
mod listening;
// `--log-file`, its rotation, and the journal's priorities.
mod log_file;
mod loops;
// A thousand connections at once.
mod many;
// What instances take, and the limit over all services.
mod memory;
// Figures and health, for those who only look.
mod metrics;
// Projects that `sockserve new` writes.
mod new;
// The page of `--metrics`, in a browser.
mod page;
// `packaging/`, the manual and the completions.
mod packaging;
// `swap --probe`, where others come in its way.
mod probe;
// Properties of what reads hostile or typed text.
mod properties;
// Programs in C, Go and Python.
mod programs;
// CPython's clients and ours, which print the same.
mod python_clients;
// Proposals of WebAssembly that are off, and wrong uses of those that are on.
mod proposals;
// A server that logs what any client sends.
mod readiness;
// The sessions in README.md.
mod readme;
// A configuration file that is read again.
mod reload;
// What `serve` and `inspect` refuse, and the advice that they give.
mod refusals;
// Bugs that fit into no other file.
mod regressions;
// `--reuse`: an instance that serves one connection after another.
mod reuse;
// Address space, memories and tables: what fits, and what is refused.
mod room;
mod run;
// The SDK for handlers, and the examples that use it.
mod sdk;
// Signals at unusual times.
mod signals;
// The control socket under clients that hold it up, and under other users.
mod socket;
// A swap, its probe and its rollback; old connections that drain or are closed.
// What an instance knows passes to the next version, and into a file.
mod state;
mod swap;
// A swap that changes the dispatch.
mod swap_dispatch;
// A swap that changes the environment and the limits.
mod swap_settings;
// The time family, in each of its modes.
mod time;
// What a handler is told of its connection.
mod told;
// `sockserve top` on a terminal.
mod top;
// What TCP does: half-closes, resets, much data, IPv6, listeners, limits.
mod transport;
// Connections over Unix sockets, and the sockets' files.
mod unix;
// Outputs that nobody reads.
mod unread;
// The surface of `wasi:sockets`, in this host and in the stock wasmtime.
mod wasi_sockets;
// The contracts' documentation, and `sockserve wit`.
mod wit;
