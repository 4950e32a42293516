//! What `sockserve top` shows: the sums, a table of services, the selected one, the keys.
//!
//! It is drawn from a model alone, at any size: what does not fit is left out, the least
//! important columns first. What the process has told is escaped already, and is again: a
//! character that would move the cursor never gets to the terminal.

use super::model::{Model, Watched};
use super::{details, text};
use crate::{Rates, ServiceState, VersionState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};
use std::time::Instant;

/// The keys, as the last line shows them.
const KEYS: &str = "q quit  arrows j k service  PgUp PgDn connections  s sort: ";
/// The widest and the narrowest column of names.
const NAMES: (usize, usize) = (8, 24);
/// The most lines for why there is no answer.
const REASON: u16 = 3;

/// How things are marked. Without colours it is done by bold and reversed text alone.
#[derive(Clone, Copy)]
pub(super) struct Theme {
    colours: bool,
}

impl Theme {
    pub(super) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.in_colour(Color::Green)
    }

    fn warning(self) -> Style {
        self.in_colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// For a number that is bad if it is not 0.
    pub(super) fn bad_if(self, is_bad: bool) -> Style {
        if is_bad { self.bad() } else { Style::new() }
    }

    pub(super) fn of_state(self, state: ServiceState) -> Style {
        match state {
            ServiceState::Serving => self.good(),
            _ => self.warning(),
        }
    }

    fn in_colour(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant, colours: bool) {
    let theme = Theme { colours };
    let area = frame.area();
    let trouble = trouble(model, now, theme);
    let reason_lines = match model.trouble {
        // One more than its characters need: lines end between words.
        Some(_) => trouble.width() / usize::from(area.width.max(1)) + 1,
        None => 0,
    };
    let reason_lines = u16::try_from(reason_lines).unwrap_or(REASON).min(REASON);
    let count = u16::try_from(model.services().len()).unwrap_or(u16::MAX);
    // The table has a third of the screen, or more if nothing else needs it.
    let table = count.saturating_add(1).min((area.height / 3).max(3));
    let [head, reason, services, selected, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(reason_lines),
        Constraint::Length(table),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(sums(model, theme), head);
    frame.render_widget(Paragraph::new(trouble).wrap(Wrap { trim: true }), reason);
    draw_services(frame, services, model, theme);
    if let Some(service) = model.selected() {
        details::draw(frame, selected, model, service, theme);
    } else if model.trouble.is_none() {
        frame.render_widget("There is no service.", selected);
    }
    let keys_line = format!("{KEYS}{}", model.order.name());
    frame.render_widget(Line::styled(keys_line, theme.heading()), keys);
}

/// A text of the process, on one line.
pub(super) fn clean(text: &str) -> String {
    crate::text::escape(text).into_owned()
}

/// Why there is no answer.
fn trouble(model: &Model, now: Instant, theme: Theme) -> Line<'static> {
    let told = model.trouble.as_ref().map(|trouble| {
        let silent = model.silent_for(now).unwrap_or_default().as_secs();
        let reason = clean(&trouble.reason);
        format!("No answer for {silent} s, asking again: {reason}")
    });
    Line::styled(told.unwrap_or_default(), theme.bad())
}

/// The sums of all services.
fn sums(model: &Model, theme: Theme) -> Text<'static> {
    let services = model.services();
    let sum = |read: fn(&Watched) -> u64| {
        let values = services.iter().map(|it| read(it));
        values.fold(0, u64::saturating_add)
    };
    let title = Line::from(vec![
        Span::styled("sockserve top", theme.heading()),
        Span::raw(format!(
            "  services {}  instances {}  memory {}  {}",
            services.len(),
            text::count(sum(|it| it.status.memory.instances)),
            text::size(sum(|it| it.status.memory.bytes)),
            model.socket,
        )),
    ]);
    let mut now = services.iter().filter_map(|it| it.now).peekable();
    let rates = now.peek().is_some().then(|| {
        now.fold(Rates::default(), |mut all, it| {
            all.accepted += it.accepted;
            all.bytes_in += it.bytes_in;
            all.bytes_out += it.bytes_out;
            all.failed += it.failed;
            all.refused += it.refused;
            all
        })
    });
    let rate = |read: fn(&Rates) -> f64| rates.as_ref().map_or(0.0, read);
    let shown = |shown: String| match rates {
        Some(_) => format!("{shown}/s"),
        None => "-".to_owned(),
    };
    let bad = |name: &str, rate: f64| {
        let text = format!("  {name} {}", shown(text::rate(rate)));
        Span::styled(text, theme.bad_if(rate > 0.0))
    };
    let figures = Line::from(vec![
        Span::raw(format!(
            "open {}  new {}  in {}  out {}",
            text::count(sum(|it| it.status.open)),
            shown(text::rate(rate(|now| now.accepted))),
            shown(text::bytes(rate(|now| now.bytes_in))),
            shown(text::bytes(rate(|now| now.bytes_out))),
        )),
        bad("failed", rate(|now| now.failed)),
        bad("refused", rate(|now| now.refused)),
    ]);
    Text::from(vec![title, figures])
}

/// A column of the table.
struct Column {
    heading: &'static str,
    width: u16,
    /// The smaller, the longer it stays on a terminal that becomes narrower.
    rank: u8,
    cell: fn(&Watched, Theme) -> Span<'static>,
}

/// The columns after the name, from left to right. Those of rank 9 and less fit into 80
/// characters beside a name of 8.
const COLUMNS: [Column; 13] = [
    Column {
        heading: "STATE",
        width: 9,
        rank: 4,
        cell: |it, theme| {
            let state = it.status.state;
            Span::styled(state_name(state), theme.of_state(state))
        },
    },
    Column {
        heading: "CONTRACT/DISPATCH",
        width: 30,
        rank: 13,
        cell: |it, _| Span::raw(kind(it)),
    },
    Column {
        heading: "OPEN/LIMIT",
        width: 10,
        rank: 0,
        cell: |it, _| {
            let limit = u64::from(it.status.limits.max_connections);
            Span::raw(format!(
                "{}/{}",
                text::count(it.status.open),
                text::count(limit)
            ))
        },
    },
    Column {
        heading: "NEW/s",
        width: 5,
        rank: 1,
        cell: |it, _| now(it, |now| text::rate(now.accepted)),
    },
    Column {
        heading: "IN/s",
        width: 5,
        rank: 5,
        cell: |it, _| now(it, |now| text::bytes(now.bytes_in)),
    },
    Column {
        heading: "OUT/s",
        width: 5,
        rank: 6,
        cell: |it, _| now(it, |now| text::bytes(now.bytes_out)),
    },
    Column {
        heading: "FAIL",
        width: 5,
        rank: 2,
        cell: |it, theme| {
            let text = text::count(it.status.failed.total());
            Span::styled(text, theme.bad_if(it.status.rates.failed > 0.0))
        },
    },
    Column {
        heading: "REFUSE",
        width: 6,
        rank: 3,
        cell: |it, theme| {
            let text = text::count(it.status.refused.total());
            Span::styled(text, theme.bad_if(it.status.rates.refused > 0.0))
        },
    },
    Column {
        heading: "INST",
        width: 5,
        rank: 11,
        cell: |it, _| Span::raw(text::count(it.status.memory.instances)),
    },
    Column {
        heading: "MEM",
        width: 5,
        rank: 8,
        cell: |it, _| Span::raw(text::size(it.status.memory.bytes)),
    },
    Column {
        heading: "p50",
        width: 6,
        rank: 10,
        cell: |it, _| Span::raw(details::at_most(&it.status.calls, 50)),
    },
    Column {
        heading: "p99",
        width: 6,
        rank: 9,
        cell: |it, _| Span::raw(details::at_most(&it.status.calls, 99)),
    },
    Column {
        heading: "VER",
        width: 5,
        rank: 7,
        cell: |it, _| Span::raw(version(it)),
    },
];

/// A rate since the last answer.
fn now(it: &Watched, shown: fn(&Rates) -> String) -> Span<'static> {
    Span::raw(it.now.as_ref().map_or("-".to_owned(), shown))
}

/// The contract and the dispatch.
pub(super) fn kind(it: &Watched) -> String {
    clean(&format!("{}/{}", it.status.contract, it.status.dispatch))
}

pub(super) fn state_name(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Serving => "serving",
        ServiceState::Suspended => "suspended",
        ServiceState::Draining => "draining",
        ServiceState::Aborting => "aborting",
    }
}

/// The number of the current version, and how many others still have connections.
fn version(it: &Watched) -> String {
    let versions = it.status.versions.iter();
    let (current, old): (Vec<_>, Vec<_>) =
        versions.partition(|version| version.state == VersionState::Current);
    let number = current
        .first()
        .map_or("-".to_owned(), |version| version.number.to_string());
    match old.iter().filter(|version| version.connections > 0).count() {
        0 => number,
        old => format!("{number}+{old}"),
    }
}

/// The columns that fit beside names of this width.
fn fitting(width: u16, names: u16) -> Vec<&'static Column> {
    let mut by_rank: Vec<_> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut left = width.saturating_sub(names);
    let mut least = 0;
    for column in by_rank {
        let Some(rest) = left.checked_sub(column.width + 1) else {
            break;
        };
        left = rest;
        least = column.rank + 1;
    }
    COLUMNS
        .iter()
        .filter(|column| column.rank < least)
        .collect()
}

fn draw_services(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let services = model.services();
    let names = services.iter().map(|it| clean(&it.status.name));
    let names: Vec<_> = names.collect();
    let widest = names.iter().map(|name| Span::raw(name).width()).max();
    let widest = widest.unwrap_or(0).clamp(NAMES.0, NAMES.1);
    let columns = fitting(area.width, u16::try_from(widest).unwrap_or(0));
    let rows = services.iter().zip(names).map(|(it, name)| {
        let cells = columns.iter().map(|column| {
            let text = Text::from((column.cell)(it, theme));
            Cell::from(aligned(column, text))
        });
        Row::new(std::iter::once(Cell::from(name)).chain(cells))
    });
    let headings = columns
        .iter()
        .map(|column| Cell::from(aligned(column, Text::from(column.heading))));
    let heading = Row::new(std::iter::once(Cell::from("SERVICE")).chain(headings));
    let widths = columns
        .iter()
        .map(|column| Constraint::Length(column.width));
    let widths = std::iter::once(Constraint::Min(0)).chain(widths);
    let table = Table::new(rows, widths)
        .header(heading.style(theme.heading()))
        .row_highlight_style(theme.selected());
    let mut state = TableState::new().with_selected(model.place());
    frame.render_stateful_widget(table, area, &mut state);
}

/// Words are at the left, numbers at the right.
fn aligned(column: &Column, text: Text<'static>) -> Text<'static> {
    if matches!(column.heading, "STATE" | "CONTRACT/DISPATCH") {
        text
    } else {
        text.right_aligned()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
pub(super) mod tests;
