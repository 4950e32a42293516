//! What `sockserve top` knows of the process, and what keys change in it. Without I/O.

use crate::{ConnectionStatus, Rates, Status};
use std::cmp::Reverse;
use std::path::Path;
use std::time::{Duration, Instant};

/// The most open connections of a service that are asked for: a list of more is of no use on
/// a screen, and costs the process and its answer's reader much.
pub(super) const MOST_LISTED: u64 = 5000;
/// How many connections a page is.
const PAGE: usize = 10;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// The service above, or below.
    Up,
    Down,
    /// Other connections of the service.
    PageUp,
    PageDown,
    Home,
    End,
    /// The next order of the services.
    Sort,
    /// The terminal has another size.
    Redraw,
}

/// In which order services are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Started,
    Name,
    Open,
    New,
    Bytes,
    Failed,
    Memory,
}

/// A service.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) status: Status,
    /// What it does per second, since the answer before. `None` if that did not have it.
    pub(super) now: Option<Rates>,
}

/// The open connections of one service.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) service: String,
    /// An error is why there is no list.
    pub(super) connections: Result<Vec<ConnectionStatus>, String>,
}

/// A process that does not answer.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) reason: String,
}

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// The control socket, as it was written.
    pub(super) socket: String,
    /// As the process lists them.
    services: Vec<Watched>,
    /// When they were so.
    at: Option<Instant>,
    pub(super) order: Order,
    /// The name of the selected service.
    selected: Option<String>,
    pub(super) listed: Option<Listed>,
    /// The list is not that of the last answer, or of another service.
    is_list_old: bool,
    /// How many connections are above the screen.
    pub(super) scrolled: usize,
    pub(super) trouble: Option<Trouble>,
}

impl Order {
    /// Each of them, in the order in which a key goes through them.
    const ALL: [Self; 7] = [
        Self::Started,
        Self::Name,
        Self::Open,
        Self::New,
        Self::Bytes,
        Self::Failed,
        Self::Memory,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Name => "name",
            Self::Open => "open",
            Self::New => "new/s",
            Self::Bytes => "bytes/s",
            Self::Failed => "failed",
            Self::Memory => "memory",
        }
    }

    fn next(self) -> Self {
        let after = Self::ALL.iter().skip_while(|order| **order != self).nth(1);
        after.copied().unwrap_or(Self::Started)
    }

    fn sort(self, services: &mut [&Watched]) {
        let rate = |it: &Watched, read: fn(&Rates) -> f64| it.now.as_ref().map_or(0.0, read);
        match self {
            Self::Started => {}
            Self::Name => services.sort_by(|a, b| a.status.name.cmp(&b.status.name)),
            Self::Open => services.sort_by_key(|it| Reverse(it.status.open)),
            Self::New => services.sort_by(|a, b| {
                let new = |it: &Watched| rate(it, |now| now.accepted);
                new(b).total_cmp(&new(a))
            }),
            Self::Bytes => services.sort_by(|a, b| {
                let bytes = |it: &Watched| rate(it, |now| now.bytes_in + now.bytes_out);
                bytes(b).total_cmp(&bytes(a))
            }),
            Self::Failed => services.sort_by_key(|it| Reverse(it.status.failed.total())),
            Self::Memory => services.sort_by_key(|it| Reverse(it.status.memory.bytes)),
        }
    }
}

impl Model {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: crate::text::path(socket).into_owned(),
            services: Vec::new(),
            at: None,
            order: Order::Started,
            selected: None,
            listed: None,
            is_list_old: true,
            scrolled: 0,
            trouble: None,
        }
    }

    /// Takes an answer, which came at this moment.
    pub(super) fn show(&mut self, services: Vec<Status>, now: Instant) {
        let time = self.at.map(|at| now.saturating_duration_since(at));
        let place = self.place().unwrap_or(0);
        let before = std::mem::take(&mut self.services);
        let watched = services.into_iter().map(|status| {
            let before = before.iter().find(|it| it.status.name == status.name);
            let now = before
                .zip(time)
                .and_then(|(before, time)| Rates::between(&before.status, &status, time));
            Watched { status, now }
        });
        self.services = watched.collect();
        self.at = Some(now);
        self.trouble = None;
        self.is_list_old = true;
        if self.place().is_none() {
            // The one that is there now, as if the selected one had been taken out above it.
            self.select(place);
        }
    }

    /// Takes note that there was no answer.
    pub(super) fn miss(&mut self, reason: &str, now: Instant) {
        let since = self.trouble.as_ref().map_or(now, |before| before.since);
        let reason = reason.to_owned();
        self.trouble = Some(Trouble { since, reason });
    }

    /// Takes the open connections of a service.
    pub(super) fn list(
        &mut self,
        service: String,
        connections: Result<Vec<ConnectionStatus>, String>,
    ) {
        self.listed = Some(Listed {
            service,
            connections,
        });
        self.scroll_to(self.scrolled);
    }

    /// The service whose connections have to be asked for. `None` the next time, until
    /// something changes.
    pub(super) fn take_wanted(&mut self) -> Option<String> {
        let is_old = std::mem::take(&mut self.is_list_old);
        let service = self.selected()?;
        let is_wanted = is_old && self.trouble.is_none() && service.status.open <= MOST_LISTED;
        is_wanted.then(|| service.status.name.clone())
    }

    /// The services in the order that was chosen.
    pub(super) fn services(&self) -> Vec<&Watched> {
        let mut services: Vec<_> = self.services.iter().collect();
        self.order.sort(&mut services);
        services
    }

    /// The place of the selected service among these.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        let mut names = self.services().into_iter().map(|it| &it.status.name);
        names.position(|name| name == selected)
    }

    pub(super) fn selected(&self) -> Option<&Watched> {
        let selected = self.selected.as_ref()?;
        self.services.iter().find(|it| it.status.name == *selected)
    }

    /// The open connections of the selected service, if they are known.
    pub(super) fn connections(&self) -> Option<&Result<Vec<ConnectionStatus>, String>> {
        let listed = self.listed.as_ref()?;
        let is_selected = Some(&listed.service) == self.selected.as_ref();
        is_selected.then_some(&listed.connections)
    }

    /// For how long there has been no answer.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        let trouble = self.trouble.as_ref()?;
        Some(now.saturating_duration_since(trouble.since))
    }

    /// Does what a key asks for.
    pub(super) fn act(&mut self, action: Action) {
        let place = self.place().unwrap_or(0);
        match action {
            Action::Up => self.select(place.saturating_sub(1)),
            Action::Down => self.select(place.saturating_add(1)),
            Action::PageUp => self.scroll_to(self.scrolled.saturating_sub(PAGE)),
            Action::PageDown => self.scroll_to(self.scrolled.saturating_add(PAGE)),
            Action::Home => self.scroll_to(0),
            Action::End => self.scroll_to(usize::MAX),
            Action::Sort => self.order = self.order.next(),
            // The terminal is looked at each time something is drawn.
            Action::Quit | Action::Redraw => {}
        }
    }

    /// Selects the service at this place, or the last one.
    fn select(&mut self, place: usize) {
        let services = self.services();
        let service = services.get(place).or(services.last());
        let name = service.map(|it| it.status.name.clone());
        if name != self.selected {
            self.selected = name;
            self.scrolled = 0;
            self.is_list_old = true;
        }
    }

    /// Leaves at least one connection on the screen.
    fn scroll_to(&mut self, scrolled: usize) {
        let count = match self.connections() {
            Some(Ok(connections)) => connections.len(),
            _ => 0,
        };
        self.scrolled = scrolled.min(count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{connection, status};
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// A model that has been shown these services, and the moment of that.
    fn shown(services: &[Status]) -> (Model, Instant) {
        let mut model = Model::new(Path::new("/run/control"));
        let start = Instant::now();
        model.show(services.to_vec(), start);
        (model, start)
    }

    fn names(model: &Model) -> Vec<&str> {
        let services = model.services().into_iter();
        services.map(|it| it.status.name.as_str()).collect()
    }

    fn new_rate(model: &Model, name: &str) -> Option<f64> {
        let mut services = model.services().into_iter();
        let service = services.find(|it| it.status.name == name).unwrap();
        service.now.map(|now| now.accepted)
    }

    #[test]
    fn rates_are_the_differences_of_two_answers() {
        let mut echo = status("echo");
        let (mut model, start) = shown(&[echo.clone()]);
        assert_eq!(new_rate(&model, "echo"), None, "there is one answer only");
        echo.accepted += 10;
        echo.bytes_in += 4096;
        model.show(vec![echo.clone(), status("chat")], at(start, 2));
        assert_eq!(new_rate(&model, "echo"), Some(5.0));
        assert_eq!(new_rate(&model, "chat"), None, "it has just appeared");
        assert_eq!(
            model.selected().unwrap().now.map(|now| now.bytes_in),
            Some(2048.0)
        );
        // A missed answer makes the time longer, and no rate wrong.
        model.miss("nobody", at(start, 3));
        echo.accepted += 8;
        model.show(vec![echo.clone()], at(start, 6));
        assert_eq!(new_rate(&model, "echo"), Some(2.0));
        // Another service under the same name has counted less.
        let mut other = status("echo");
        other.handled = 0;
        other.accepted = 3;
        model.show(vec![other], at(start, 7));
        assert_eq!(new_rate(&model, "echo"), None);
    }

    #[test]
    fn the_selected_service_stays_selected_as_long_as_it_is_there() {
        let all = ["a", "b", "c"].map(status);
        let (mut model, start) = shown(&all);
        let selected = |model: &Model| model.selected().map(|it| it.status.name.clone());
        assert_eq!(selected(&model).as_deref(), Some("a"));
        model.act(Action::Up);
        assert_eq!(selected(&model).as_deref(), Some("a"));
        model.act(Action::Down);
        assert_eq!(selected(&model).as_deref(), Some("b"));
        // One before it goes, and it comes back after it.
        model.show(vec![status("b"), status("c"), status("a")], at(start, 1));
        assert_eq!(
            (selected(&model).as_deref(), model.place()),
            (Some("b"), Some(0))
        );
        model.show(vec![status("c"), status("a")], at(start, 2));
        assert_eq!(selected(&model).as_deref(), Some("c"));
        for _ in 0..5 {
            model.act(Action::Down);
        }
        assert_eq!(selected(&model).as_deref(), Some("a"));
        model.show(Vec::new(), at(start, 3));
        assert_eq!((selected(&model), model.place()), (None, None));
        for action in [Action::Up, Action::Down, Action::End, Action::Sort] {
            model.act(action);
        }
        assert_eq!(model.take_wanted(), None);
        model.show(vec![status("a")], at(start, 4));
        assert_eq!(selected(&model).as_deref(), Some("a"));
    }

    #[test]
    fn connections_are_asked_for_when_something_has_changed() {
        let (mut model, start) = shown(&["a", "b"].map(status));
        assert_eq!(model.take_wanted().as_deref(), Some("a"));
        assert_eq!(model.take_wanted(), None);
        model.list("a".to_owned(), Ok((0..30).map(connection).collect()));
        model.act(Action::End);
        assert_eq!(model.scrolled, 29);
        model.act(Action::PageUp);
        assert_eq!(model.scrolled, 19);
        model.list("a".to_owned(), Ok((0..5).map(connection).collect()));
        assert_eq!(model.scrolled, 4, "fewer are there now");
        model.act(Action::Down);
        assert!(
            model.connections().is_none(),
            "these are of another service"
        );
        assert_eq!(model.take_wanted().as_deref(), Some("b"));
        // An answer that comes late is not taken for the selected service's.
        model.list("a".to_owned(), Ok(vec![connection(1)]));
        assert!(model.connections().is_none());
        let mut busy = status("b");
        busy.open = MOST_LISTED + 1;
        model.show(vec![busy], at(start, 1));
        assert_eq!(model.take_wanted(), None);
    }

    #[test]
    fn a_key_goes_through_the_orders() {
        let mut all = ["b", "c", "a"].map(status);
        all[1].open = 99;
        all[0].memory.bytes = 1 << 40;
        all[2].failed.trap = 1000;
        let (mut model, start) = shown(&all);
        all[2].accepted += 5;
        all[1].bytes_out += 9;
        model.show(all.to_vec(), at(start, 1));
        for (order, expected) in [
            (Order::Started, ["b", "c", "a"]),
            (Order::Name, ["a", "b", "c"]),
            (Order::Open, ["c", "b", "a"]),
            (Order::New, ["a", "b", "c"]),
            (Order::Bytes, ["c", "b", "a"]),
            (Order::Failed, ["a", "b", "c"]),
            (Order::Memory, ["b", "c", "a"]),
            (Order::Started, ["b", "c", "a"]),
        ] {
            assert_eq!(model.order, order);
            assert_eq!(names(&model), expected, "{order:?}");
            model.act(Action::Sort);
        }
    }

    #[test]
    fn silence_begins_with_the_first_missed_answer() {
        let (mut model, start) = shown(&[status("a")]);
        assert_eq!(model.silent_for(start), None);
        model.miss("nobody answers", at(start, 1));
        model.miss("still nobody", at(start, 4));
        let trouble = model.trouble.as_ref().unwrap();
        assert_eq!(trouble.reason, "still nobody");
        assert_eq!(model.silent_for(at(start, 6)), Some(Duration::from_secs(5)));
        assert_eq!(model.services().len(), 1, "what was known stays");
        model.show(vec![status("a")], at(start, 7));
        assert_eq!(model.silent_for(at(start, 8)), None);
    }
}
