//! The figures of all services, in the text format of Prometheus.
//!
//! They are made of the services' statuses when somebody asks, and nothing is counted twice.
//! Names and units follow Prometheus' conventions: a total ends with `_total`, and a size is
//! in bytes.

use crate::registry::Registry;
use crate::service::status::{ServiceState, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// The figures at one moment.
#[derive(Debug)]
struct Figures {
    services: Vec<Status>,
    /// Memory of the process, if the system says so.
    resident: Option<u64>,
}

/// Returns the figures of the services.
pub(super) fn figures(registry: &Registry) -> Result<String, fmt::Error> {
    let mut figures = prometheus_client::registry::Registry::default();
    figures.register_collector(Box::new(Figures {
        services: registry.all().iter().map(|it| it.status()).collect(),
        resident: resident(),
    }));
    let mut out = String::new();
    text::encode(&mut out, &figures)?;
    Ok(out)
}

/// The resident memory of the process, in bytes.
fn resident() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let build = encoder.encode_descriptor(
            "sockserve_build",
            "The version of sockserve",
            None,
            MetricType::Info,
        );
        build?.encode_info(&version)?;
        if let Some(resident) = self.resident {
            let help = "Resident memory size in bytes";
            let name = "process_resident_memory_bytes";
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode_gauge(&resident)?;
        }
        let mut all = Encoder(encoder);
        let one =
            |figure: fn(&Status) -> u64| move |status: &Status| vec![(Vec::new(), figure(status))];
        self.counter(
            &mut all,
            "sockserve_accepted",
            "Connections that were accepted, or datagrams that came to a guest or were refused",
            one(|status| status.accepted),
        )?;
        self.gauge(
            &mut all,
            "sockserve_open",
            "Open connections, or datagrams that are being served",
            one(|status| status.open),
        )?;
        self.counter(
            &mut all,
            "sockserve_handled",
            "Connections or datagrams whose handler ended with success",
            one(|status| status.handled),
        )?;
        self.counter(
            &mut all,
            "sockserve_failed",
            "Connections or datagrams that failed, by reason",
            |status| by_field(&status.failed, "reason"),
        )?;
        self.counter(
            &mut all,
            "sockserve_refused",
            "Connections or datagrams that were not let in, by reason",
            |status| by_field(&status.refused, "reason"),
        )?;
        self.counter(
            &mut all,
            "sockserve_hand_overs",
            "Connections that went to another version, and offers that were refused",
            |status| by_field(&status.hand_overs, "outcome"),
        )?;
        self.counter(
            &mut all,
            "sockserve_datagrams",
            "Datagrams of a service for datagrams, by what became of them",
            |status| by_field(&status.datagrams, "outcome"),
        )?;
        self.counter(
            &mut all,
            "sockserve_received_bytes",
            "Bytes read from peers",
            one(|status| status.bytes_in),
        )?;
        self.counter(
            &mut all,
            "sockserve_sent_bytes",
            "Bytes that the kernel has taken for peers",
            one(|status| status.bytes_out),
        )?;
        self.counter(
            &mut all,
            "sockserve_log_lines_dropped",
            "Lines of the log that were dropped because its reader was too slow",
            one(|status| status.log_lines_dropped),
        )?;
        self.gauge(
            &mut all,
            "sockserve_max_connections",
            "Connections that may be open at once",
            one(|status| u64::from(status.limits.max_connections)),
        )?;
        self.gauge(
            &mut all,
            "sockserve_instances",
            "Instances of components that are alive",
            one(|status| status.memory.instances),
        )?;
        self.gauge(
            &mut all,
            "sockserve_instances_memory_bytes",
            "What the instances have asked for, in their memories and tables",
            one(|status| status.memory.bytes),
        )?;
        self.calls(&mut all)?;
        self.gauge(
            &mut all,
            "sockserve_version",
            "The number of the current version of the handler",
            one(|status| status.versions.last().map_or(0, |it| u64::from(it.number))),
        )?;
        self.gauge(
            &mut all,
            "sockserve_serving",
            "Whether the service accepts: 1, or 0 if it is suspended or drains",
            one(|status| u64::from(status.state == ServiceState::Serving)),
        )
    }
}

/// Where the families go.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Figures {
    fn counter(
        &self,
        encoder: &mut Encoder<'_>,
        name: &str,
        help: &str,
        samples: impl Fn(&Status) -> Vec<(Labels, u64)>,
    ) -> fmt::Result {
        self.family(
            encoder,
            name,
            help,
            MetricType::Counter,
            samples,
            |sample, value| sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
        )
    }

    fn gauge(
        &self,
        encoder: &mut Encoder<'_>,
        name: &str,
        help: &str,
        samples: impl Fn(&Status) -> Vec<(Labels, u64)>,
    ) -> fmt::Result {
        self.family(
            encoder,
            name,
            help,
            MetricType::Gauge,
            samples,
            |sample, value| sample.encode_gauge(&value),
        )
    }

    /// Writes how long calls took, as a histogram per service.
    fn calls(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let mut family = encoder.0.encode_descriptor(
            "sockserve_call_duration_seconds",
            "How long the calls of guests took: a turn, a batch, or a whole connection",
            None,
            MetricType::Histogram,
        )?;
        for status in &self.services {
            let calls = &status.calls;
            let buckets: Vec<_> = calls
                .buckets
                .iter()
                .map(|it| (it.at_most_seconds.unwrap_or(f64::INFINITY), it.count))
                .collect();
            let service = [("service", status.name.as_str())];
            let mut sample = family.encode_family(&service)?;
            sample.encode_histogram::<NoLabelSet>(calls.seconds, calls.count, &buckets, None)?;
        }
        Ok(())
    }

    /// Writes a family with the samples of each service, which have its name.
    fn family(
        &self,
        encoder: &mut Encoder<'_>,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl Fn(&Status) -> Vec<(Labels, u64)>,
        write: impl Fn(&mut MetricEncoder<'_>, u64) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = encoder.0.encode_descriptor(name, help, None, kind)?;
        for status in &self.services {
            for (labels, value) in samples(status) {
                let mut all: Labels = vec![("service", status.name.clone())];
                all.extend(labels);
                write(&mut family.encode_family(&all)?, value)?;
            }
        }
        Ok(())
    }
}

/// A sample per field of a struct of counts, with the field's name as a label.
fn by_field(counts: &impl Serialize, label: &'static str) -> Vec<(Labels, u64)> {
    let Ok(Value::Object(fields)) = serde_json::to_value(counts) else {
        return Vec::new();
    };
    let samples = fields.into_iter().filter_map(|(field, count)| {
        let count = count.as_u64()?;
        Some((vec![(label, field)], count))
    });
    samples.collect()
}
