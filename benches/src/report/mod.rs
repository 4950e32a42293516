//! The results: what is printed, and what is written as JSON.

pub(crate) mod markdown;
pub(crate) mod statistics;
pub(crate) mod table;

use crate::measure::{Cost, Sample};
use crate::servers::Server;
use crate::work::Work;
use crate::work::targets::{Target, target};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use statistics::{median, ratios};
use std::fs;
use std::path::Path;

/// The number of the JSON's format.
const FORMAT: u32 = 1;

/// Everything that a run has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The format of this file; 1.
    format: u32,
    pub(crate) machine: Machine,
    /// How often each server was measured with each work.
    pub(crate) rounds: usize,
    /// How long work of a rate was done each time.
    pub(crate) window_milliseconds: u64,
    pub(crate) results: Vec<Finding>,
}

/// What matters of a machine. Its name does not.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// How TCP avoids congestion (`net.ipv4.tcp_congestion_control`). Some ways send by a
    /// timer, which costs more than what it sends. Earlier reports do not say it.
    #[serde(default = "Machine::unknown")]
    pub(crate) congestion_control: String,
    /// How many cores this program may use.
    pub(crate) cores: usize,
    /// Whether the clients have a core of their own.
    pub(crate) clients_apart: bool,
}

/// What was found of one server with one work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) work: String,
    pub(crate) server: String,
    /// Of `value`.
    pub(crate) unit: String,
    /// The median of the samples.
    pub(crate) value: Option<f64>,
    /// The median of the ratios to native's value in the same round.
    pub(crate) ratio: Option<f64>,
    /// The medians of the samples, in nanoseconds per operation.
    pub(crate) cost: Option<Cost>,
    /// The median of the ratios to native's processor time in the same round.
    pub(crate) cost_ratio: Option<f64>,
    /// What we want to reach: of `cost_ratio`, or of `value` if there is no cost.
    pub(crate) target: Option<f64>,
    /// What was busy all the time: `server`, `client`, or `neither`.
    pub(crate) limit: Option<String>,
    /// Why there are no samples, or not all of them.
    pub(crate) skipped: Option<String>,
    pub(crate) failed: Option<String>,
    /// One per round.
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    pub(crate) fn new(machine: Machine, rounds: usize, window_milliseconds: u64) -> Self {
        Self {
            format: FORMAT,
            machine,
            rounds,
            window_milliseconds,
            results: Vec::new(),
        }
    }

    /// Reads a report that was written as JSON.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let json = fs::read_to_string(path);
        let json = json.with_context(|| format!("cannot read {}", path.display()))?;
        let report = serde_json::from_str(&json);
        report.with_context(|| format!("{} is no report of this program", path.display()))
    }

    /// Writes the report as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The result of a server with some work, if it was measured.
    pub(crate) fn find(&self, work: &str, server: &str) -> Option<&Finding> {
        let mut results = self.results.iter();
        results.find(|result| result.work == work && result.server == server)
    }
}

/// What the rounds of one server with one work have given.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) server: Server,
    /// One per round, also of those in which it was not measured.
    pub(crate) samples: Vec<Option<Sample>>,
    pub(crate) skipped: Option<String>,
    pub(crate) failed: Option<String>,
}

impl Gathered {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            samples: Vec::new(),
            skipped: None,
            failed: None,
        }
    }

    /// Makes a result of it, compared with what native has given in the same rounds.
    pub(crate) fn conclude(&self, work: Work, native: Option<&Self>) -> Finding {
        let values = |it: &Self| it.each(|sample| Some(sample.value));
        let costs = |it: &Self| it.each(|sample| sample.cost.map(|cost| cost.total));
        let ratio = |of: fn(&Self) -> Vec<Option<f64>>| {
            native.and_then(|native| median(&ratios(&of(self), &of(native))))
        };
        Finding {
            work: work.to_string(),
            server: self.server.to_string(),
            unit: work.unit().to_owned(),
            value: middle(&values(self)),
            ratio: ratio(values),
            cost: self.cost(),
            cost_ratio: ratio(costs),
            target: target(work, self.server).map(|target| match target {
                Target::CostRatio(ratio) => ratio,
                Target::Value(value) => value,
            }),
            limit: self.limit(work).map(str::to_owned),
            skipped: self.skipped.clone(),
            failed: self.failed.clone(),
            samples: self.samples.iter().flatten().cloned().collect(),
        }
    }

    fn each(&self, of: impl Fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
        let samples = self.samples.iter();
        samples.map(|sample| of(sample.as_ref()?)).collect()
    }

    fn cost(&self) -> Option<Cost> {
        let part =
            |of: fn(&Cost) -> Option<f64>| middle(&self.each(|sample| of(sample.cost.as_ref()?)));
        Some(Cost {
            total: part(|cost| Some(cost.total))?,
            user: part(|cost| cost.user),
            system: part(|cost| cost.system),
        })
    }

    /// Who was busy all the time. Where it is the client, a server that were faster would
    /// not show it in the rate, but in its processor time.
    fn limit(&self, work: Work) -> Option<&'static str> {
        /// Nobody is busy for the whole of a run.
        const BUSY: f64 = 0.9;
        let server = middle(&self.each(|sample| sample.server_busy))?;
        let client = middle(&self.each(|sample| sample.client_busy))?;
        let cores = f64::from(u32::try_from(work.cores()).unwrap_or(1));
        Some(if server >= BUSY * cores {
            "server"
        } else if client >= BUSY {
            "client"
        } else {
            "neither"
        })
    }
}

fn middle(values: &[Option<f64>]) -> Option<f64> {
    let values: Vec<_> = values.iter().flatten().copied().collect();
    median(&values)
}

#[cfg(test)]
mod tests {
    use super::{Gathered, Machine, Report};
    use crate::measure::{Cost, Sample};
    use crate::servers::{Contract, Dispatch, Server};
    use crate::work::Work;

    fn gathered(server: Server, samples: &[Option<(f64, f64, f64, f64)>]) -> Gathered {
        let samples = samples.iter().map(|sample| {
            let (value, total, server_busy, client_busy) = (*sample)?;
            Some(Sample {
                value,
                cost: Some(Cost {
                    total,
                    user: None,
                    system: Some(total),
                }),
                server_busy: Some(server_busy),
                client_busy: Some(client_busy),
                ..Sample::default()
            })
        });
        Gathered {
            samples: samples.collect(),
            ..Gathered::new(server)
        }
    }

    #[test]
    fn ratios_are_to_native_in_the_same_round() {
        let work = Work::PingPong { connections: 64 };
        let native = gathered(
            Server::Tokio,
            &[
                Some((100.0, 10.0, 0.9, 1.0)),
                // The machine was busy with something else: both are slower.
                Some((50.0, 20.0, 0.9, 1.0)),
                Some((100.0, 10.0, 0.9, 1.0)),
            ],
        );
        let ours = Server::Ours(Contract::Evented, Dispatch::Poll);
        let samples = [
            Some((90.0, 11.0, 0.7, 1.0)),
            Some((45.0, 22.0, 0.7, 0.95)),
            None,
        ];
        let result = gathered(ours, &samples).conclude(work, Some(&native));
        assert_eq!(result.ratio, Some(0.9));
        assert_eq!(result.cost_ratio, Some(1.1));
        assert_eq!(result.value, Some(67.5));
        assert_eq!(result.target, Some(1.05));
        assert_eq!(result.limit.as_deref(), Some("client"));
        assert_eq!(result.samples.len(), 2);
        let cost = result.cost.unwrap();
        assert_eq!(
            (cost.total, cost.user, cost.system),
            (16.5, None, Some(16.5))
        );
        let native = native.conclude(work, Some(&native));
        assert_eq!((native.ratio, native.cost_ratio), (Some(1.0), Some(1.0)));
        assert_eq!(native.limit.as_deref(), Some("server"));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let machine = Machine {
            processor: "p".to_owned(),
            congestion_control: "cubic".to_owned(),
            kernel: "6".to_owned(),
            cores: 2,
            clients_apart: true,
        };
        let mut report = Report::new(machine, 3, 1000);
        let work = Work::Connect;
        let mut skipped = Gathered::new(Server::Epoll);
        skipped.skipped = Some("why".to_owned());
        report.results.push(skipped.conclude(work, None));
        let measured = gathered(Server::Tokio, &[Some((1.5, 2.0, 0.5, 0.5))]);
        report.results.push(measured.conclude(work, None));
        let json = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        let again = read.find("connect", "native/tokio").unwrap();
        assert_eq!(again.samples[0].value, 1.5);
        let skipped = read.find("connect", "native/epoll").unwrap();
        assert_eq!(skipped.skipped.as_deref(), Some("why"));
        assert!(read.find("connect", "evented/poll").is_none());
    }
}
