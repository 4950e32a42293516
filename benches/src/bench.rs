//! A run of the benchmark: work by work, round by round, server by server.

use crate::measure::{self, Context, Outcome, Times};
use crate::options::Options;
use crate::plots;
use crate::report::{Finding, Gathered, Report, markdown, table};
use crate::servers::Server;
use crate::servers::command::{self, Files};
use crate::servers::fit::{Fit, fit};
use crate::servers::tools::{self, Tools};
use crate::system::{self, Cores};
use crate::work::{Work, filter};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Descriptors that a process has beside its connections.
const OTHER_FILES: u64 = 100;

/// How long a server may take to open all connections of some work.
const OPENING: Duration = Duration::from_secs(20);
const QUICK_OPENING: Duration = Duration::from_secs(2);

/// How long all measurements may take with `--quick`. The last may take a little longer,
/// and all together must not take two minutes.
const QUICK: Duration = Duration::from_secs(100);

/// What is not measured because it would take too long.
struct Bounds {
    /// When everything must be over.
    deadline: Option<Instant>,
    /// With how many connections a server was too slow, or failed, by its name.
    too_many: BTreeMap<String, usize>,
}

impl Bounds {
    /// Why a server is not measured with so many connections, if it is not.
    fn forbid(&self, server: &str, connections: usize) -> Option<String> {
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() > deadline)
        {
            return Some("the time of --quick is over".to_owned());
        }
        let many = self.too_many.get(server);
        let many = many.filter(|&&many| connections >= many)?;
        Some(format!("it did not manage {many} connections"))
    }
}

/// Measures what the options name. Returns whether no server failed of those that are not
/// by others.
pub(crate) fn run(options: &Options, works: &[Work]) -> Result<bool> {
    let sockserve = match &options.sockserve {
        Some(path) => fs::canonicalize(path)
            .with_context(|| format!("there is no sockserve at {}", path.display()))?,
        None => tools::build_sockserve()?,
    };
    let open_files = system::raise_open_files()?;
    let directory = measure::make_directory()?;
    let result = run_in(
        options,
        works,
        open_files,
        &Context {
            tools: Tools::new(sockserve, &directory),
            cores: Cores::available()?,
            times: Times {
                window: Duration::from_millis(options.milliseconds()),
                opening: if options.quick {
                    QUICK_OPENING
                } else {
                    OPENING
                },
            },
            directory: directory.clone(),
        },
    );
    fs::remove_dir_all(&directory)?;
    result
}

fn run_in(options: &Options, works: &[Work], open_files: u64, context: &Context) -> Result<bool> {
    let machine = system::machine(&context.cores);
    let rounds = usize::try_from(options.rounds())?;
    let milliseconds = options.milliseconds();
    say(&table::preface(&machine, rounds, milliseconds))?;
    prepare(works, options, context);
    let mut report = Report::new(machine, rounds, milliseconds);
    let mut bounds = Bounds {
        deadline: options.quick.then(|| Instant::now() + QUICK),
        too_many: BTreeMap::new(),
    };
    for &work in works {
        let results = measure_work(work, options, open_files, context, &mut bounds);
        if !results.is_empty() {
            let name = work.to_string();
            say(&table::of_work(&name, &work.description(), &results))?;
        }
        report.results.extend(results);
        // After each work, so that a run that is cut off leaves what it has found.
        if let Some(path) = &options.json {
            report.write(path)?;
        }
    }
    finish(&report, options)?;
    let failed = report.results.iter().filter(|it| it.failed.is_some());
    let names: Vec<_> = failed.map(|it| it.server.as_str()).collect();
    Ok(!Server::all()
        .iter()
        .any(|server| !server.is_of_others() && names.contains(&server.to_string().as_str())))
}

/// Prints and plots a report that was written before.
pub(crate) fn show(report: &Report, options: &Options) -> Result<()> {
    let all = Work::all(true);
    let describe = |name: &str| {
        let work = all.iter().find(|work| work.to_string() == name);
        work.map_or(String::new(), |work| work.description())
    };
    say(&table::whole(report, describe))?;
    finish(report, options)
}

fn finish(report: &Report, options: &Options) -> Result<()> {
    if let Some(path) = &options.markdown {
        fs::write(path, markdown::whole(report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(directory) = &options.plots {
        for name in plots::write(report, directory)? {
            say(&format!("wrote {}\n", directory.join(name).display()))?;
        }
    }
    Ok(())
}

/// Writes to standard output at once: a run takes long. It may be closed early.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    let written = output.write_all(text.as_bytes());
    written
        .and_then(|()| output.flush())
        .context("cannot write to standard output")
}

/// Measures all servers that do some work, in turn.
fn measure_work(
    work: Work,
    options: &Options,
    open_files: u64,
    context: &Context,
    bounds: &mut Bounds,
) -> Vec<Finding> {
    let mut all: Vec<_> = Server::all()
        .into_iter()
        .filter(|server| {
            *server == Server::Tokio || filter::is_meant(&server.to_string(), &options.server)
        })
        .filter_map(|server| gathered(server, work, open_files))
        .collect();
    // Native alone would be compared with itself.
    let named = |one: &Gathered| filter::is_meant(&one.server.to_string(), &options.server);
    if !all.iter().any(named) {
        return Vec::new();
    }
    for round in 1..=options.rounds() {
        for one in &mut all {
            progress(&format!("{work} {} (round {round})", one.server));
            one.measure(work, context, bounds);
        }
    }
    progress("");
    let native = all.iter().find(|one| one.server == Server::Tokio);
    all.iter().map(|one| one.conclude(work, native)).collect()
}

/// Makes what the servers need, so that nothing is built or compiled between measurements.
/// What is missing is remembered, and told in the tables.
fn prepare(works: &[Work], options: &Options, context: &Context) {
    let files = Files {
        directory: &context.directory,
        cache: &context.directory,
    };
    for server in Server::all() {
        for &work in works {
            let is_meant = filter::is_meant(&server.to_string(), &options.server);
            if is_meant && fit(server, work) == Fit::Yes {
                let _ = command::command(server, work, &context.tools, &files);
            }
        }
    }
}

/// Says on a terminal what is done now, in place of what was said before.
fn progress(what: &str) {
    let mut error = std::io::stderr().lock();
    if error.is_terminal() {
        let _ = write!(error, "\r\x1b[K{what}");
    }
}

/// A place for the samples of a server that is made for some work.
fn gathered(server: Server, work: Work, open_files: u64) -> Option<Gathered> {
    let mut gathered = Gathered::new(server);
    match fit(server, work) {
        Fit::No => return None,
        Fit::Skipped(why) => gathered.skipped = Some(why.to_owned()),
        Fit::Yes => {
            let connections = u64::try_from(work.connections()).unwrap_or(u64::MAX);
            let needed = connections.saturating_add(OTHER_FILES);
            if needed > open_files {
                gathered.skipped = Some(format!(
                    "{needed} open files are needed, and the hard limit is {open_files}; raise \
                     it with `ulimit -Hn`"
                ));
            }
        }
    }
    Some(gathered)
}

impl Gathered {
    /// Measures once more, unless it is known that this cannot be done.
    fn measure(&mut self, work: Work, context: &Context, bounds: &mut Bounds) {
        let (name, connections) = (self.server.to_string(), work.connections());
        if let Some(why) = bounds.forbid(&name, connections) {
            self.skipped = Some(why);
        }
        let mut sample = None;
        if self.skipped.is_none() && self.failed.is_none() {
            match measure::measure(self.server, work, context) {
                Outcome::Measured(measured) => sample = Some(measured),
                Outcome::Skipped(why) => self.skipped = Some(why),
                Outcome::TooSlow(why) => {
                    self.skipped = Some(why);
                    bounds.too_many.insert(name, connections);
                }
                Outcome::Failed(error) => {
                    self.failed = Some(format!("{error:#}"));
                    if self.server.is_of_others() && connections > 1 {
                        bounds.too_many.insert(name, connections);
                    }
                }
            }
        }
        self.samples.push(sample);
    }
}

/// What `--list` prints.
pub(crate) fn list() -> String {
    let mut text = "work:\n".to_owned();
    for work in Work::all(true) {
        text += &format!("  {:<18} {}\n", work.to_string(), work.description());
    }
    text += "servers:\n";
    for server in Server::all() {
        text += &format!("  {server}\n");
    }
    text
}

/// The work that the options name; an error names what there is not.
pub(crate) fn works(options: &Options) -> Result<Vec<Work>, String> {
    let all = Work::all(true);
    let names: Vec<_> = all.iter().map(Work::to_string).collect();
    let servers: Vec<_> = Server::all().iter().map(Server::to_string).collect();
    let check = |what, names: &[String], filters| match filter::unknown(names, filters).first() {
        Some(name) => Err(format!(
            "there is no {what} {name}; --list says which there are"
        )),
        None => Ok(()),
    };
    check("work", &names, &options.only)?;
    check("server", &servers, &options.server)?;
    let mut works = if options.only.is_empty() {
        Work::all(options.plots.is_some())
    } else {
        let meant = |work: &Work| filter::is_meant(&work.to_string(), &options.only);
        all.into_iter().filter(meant).collect()
    };
    if options.quick {
        // What takes long comes last, and so is what there may be no time for.
        works.sort_by_key(|work| work.connections() >= 1000);
    }
    Ok(works)
}

#[cfg(test)]
mod tests {
    use super::{Bounds, list, works};
    use crate::options::Options;
    use clap::Parser as _;
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    #[test]
    fn work_is_named_by_options() {
        let check = |arguments: &[&str], expected: std::result::Result<usize, &str>| {
            let options = Options::parse_from([&["benches"], arguments].concat());
            let seen = works(&options).map(|works| works.len());
            assert_eq!(
                seen.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|e| *e)
            );
        };
        check(&["--only", "ping-pong/64"], Ok(1));
        check(&["--only", "streaming", "--only", "connect"], Ok(3));
        let unknown = "there is no work ping; --list says which there are";
        check(&["--only", "ping"], Err(unknown));
        let unknown = "there is no server us; --list says which there are";
        check(&["--server", "us"], Err(unknown));
    }

    #[test]
    fn what_would_take_too_long_is_not_tried() {
        let mut bounds = Bounds {
            deadline: None,
            too_many: BTreeMap::from([("a".to_owned(), 1000)]),
        };
        let check = |bounds: &Bounds, server, connections, expected: Option<&str>| {
            assert_eq!(bounds.forbid(server, connections).as_deref(), expected);
        };
        check(&bounds, "a", 64, None);
        let why = Some("it did not manage 1000 connections");
        check(&bounds, "a", 1000, why);
        check(&bounds, "a", 10_000, why);
        check(&bounds, "b", 10_000, None);
        let past = Instant::now().checked_sub(Duration::from_secs(1));
        bounds.deadline = Some(past.unwrap());
        check(&bounds, "b", 1, Some("the time of --quick is over"));
    }

    #[test]
    fn the_list_has_names_for_the_filters() {
        let list = list();
        for name in [
            "ping-pong/10000",
            "swap-pause/5000",
            "evented/poll",
            "native/tokio",
        ] {
            assert!(list.contains(&format!("  {name}")), "{list}");
        }
    }
}
