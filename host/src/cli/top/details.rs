//! The selected service: its sums, its reasons of failures and refusals, its versions and its
//! open connections.

use super::model::{MOST_LISTED, Model, Watched};
use super::text;
use super::view::{Theme, clean, kind, state_name};
use crate::cli::connections::{COLUMNS, row};
use crate::{ConnectionStatus, LatencyCounts, VersionState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Row, Table};
use serde::Serialize;
use serde_json::Value;

/// The most versions that have a line.
const VERSIONS: usize = 4;
/// The column of a list of connections that says their service: here it is always the same.
const SERVICE: usize = 1;

pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    service: &Watched,
    theme: Theme,
) {
    let name = format!(" {} ", clean(&service.status.name));
    let name = Span::styled(name, theme.heading());
    let block = Block::new().borders(Borders::TOP).title(name);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let mut lines = figures(service, theme);
    lines.extend(versions(service, theme));
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [above, below] =
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(inside);
    frame.render_widget(ratatui::text::Text::from(lines), above);
    draw_connections(frame, below, model, service, theme);
}

/// The lines about the service as a whole.
fn figures(service: &Watched, theme: Theme) -> Vec<Line<'static>> {
    let status = &service.status;
    let state = Span::styled(state_name(status.state), theme.of_state(status.state));
    let listeners = clean(&status.listeners.join(" "));
    let mut lines = vec![
        Line::from(vec![
            state,
            Span::raw(format!("  {}  {listeners}", kind(service))),
        ]),
        Line::raw(format!(
            "accepted {}  handled {}  failed {}  refused {}  new in the last minute {}/s",
            status.accepted,
            status.handled,
            status.failed.total(),
            status.refused.total(),
            text::rate(status.rates.accepted),
        )),
        Line::raw(format!(
            "calls {}  p50 {}  p99 {}  instances {}  memory {}, at most {} each",
            text::count(status.calls.count),
            at_most(&status.calls, 50),
            at_most(&status.calls, 99),
            status.memory.instances,
            text::size(status.memory.bytes),
            text::size(status.limits.max_memory_bytes),
        )),
    ];
    let rates = &status.rates;
    lines.extend(reasons(
        "failed",
        &status.failed,
        rates.failed * rates.seconds,
        theme,
    ));
    lines.extend(reasons(
        "refused",
        &status.refused,
        rates.refused * rates.seconds,
        theme,
    ));
    if let Some(reason) = &status.rolled_back {
        lines.push(Line::styled(clean(reason), theme.bad()));
    }
    lines
}

/// The counts that are not 0, by reason, and how many of all were counted in the last minute.
/// `None` if there is nothing to say.
fn reasons(
    what: &str,
    counts: &impl Serialize,
    lately: f64,
    theme: Theme,
) -> Option<Line<'static>> {
    let Ok(Value::Object(fields)) = serde_json::to_value(counts) else {
        return None;
    };
    let counts = fields.iter().filter_map(|(reason, count)| {
        let count = count.as_u64().filter(|count| *count > 0)?;
        Some(format!("{reason} {count}"))
    });
    let counts: Vec<_> = counts.collect();
    if counts.is_empty() {
        return None;
    }
    let mut spans = vec![Span::raw(format!("{what}: {}", counts.join("  ")))];
    if lately >= 0.5 {
        let text = format!("  ({lately:.0} in the last minute)");
        spans.push(Span::styled(text, theme.bad()));
    }
    Some(Line::from(spans))
}

/// The versions, the current one first.
fn versions(service: &Watched, theme: Theme) -> Vec<Line<'static>> {
    let versions = service.status.versions.iter().rev().take(VERSIONS);
    let lines = versions.map(|version| {
        let (mark, style) = if version.state == VersionState::Current {
            ("*", theme.heading())
        } else {
            (" ", Style::new())
        };
        let digest = version.sha256.get(..12).unwrap_or(&version.sha256);
        let text = format!(
            "{mark} version {}  {} connections  {} failed  sha256 {digest}  {}",
            version.number,
            version.connections,
            version.failed.total(),
            version.source,
        );
        Line::styled(clean(&text), style)
    });
    lines.collect()
}

fn draw_connections(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    service: &Watched,
    theme: Theme,
) {
    match model.connections() {
        _ if service.status.open > MOST_LISTED => {
            let text = format!("More than {MOST_LISTED} connections are not listed here.");
            frame.render_widget(text, area);
        }
        Some(Ok(connections)) if connections.is_empty() => {
            frame.render_widget("No connection is open.", area);
        }
        Some(Ok(connections)) => draw_list(frame, area, connections, model.scrolled, theme),
        Some(Err(error)) => frame.render_widget(Line::styled(clean(error), theme.bad()), area),
        None => {}
    }
}

fn draw_list(
    frame: &mut Frame<'_>,
    area: Rect,
    connections: &[ConnectionStatus],
    scrolled: usize,
    theme: Theme,
) {
    // Only what can be on the screen is made into text.
    let shown = connections.iter().skip(scrolled).take(area.height.into());
    let rows: Vec<_> = shown.map(|it| without_service(row(it))).collect();
    let headings = without_service(COLUMNS.map(str::to_owned));
    let widths: Vec<_> = (0..headings.len())
        .map(|column| {
            let rows = std::iter::once(&headings).chain(&rows);
            let widths = rows.filter_map(|row| row.get(column));
            let width = widths.map(|cell| Span::raw(cell).width()).max();
            Constraint::Length(u16::try_from(width.unwrap_or(0)).unwrap_or(u16::MAX))
        })
        .collect();
    let rows = rows.into_iter().map(Row::new);
    let table = Table::new(rows, widths)
        .header(Row::new(headings).style(theme.heading()))
        .column_spacing(2);
    frame.render_widget(table, area);
}

fn without_service<const N: usize>(cells: [String; N]) -> Vec<String> {
    let cells = cells.into_iter().enumerate();
    let cells = cells.filter(|(column, _)| *column != SERVICE);
    cells.map(|(_, cell)| clean(&cell)).collect()
}

/// The limit that so many percent of the calls keep, as text.
pub(super) fn at_most(calls: &LatencyCounts, percent: u8) -> String {
    if calls.count == 0 {
        return "-".to_owned();
    }
    calls.at_most(percent).map_or_else(
        || longest(calls),
        |limit| format!("≤{}", text::limit(limit)),
    )
}

/// A time that is longer than each limit.
fn longest(calls: &LatencyCounts) -> String {
    let mut limits = calls.buckets.iter().rev();
    let limit = limits.find_map(|bucket| bucket.at_most_seconds);
    limit.map_or("-".to_owned(), |limit| format!(">{}", text::limit(limit)))
}
