//! The terminal of `sockserve top`: drawing, keys, and that it is left as it was found.
//!
//! It is restored when this is dropped, and by a hook if the process panics. Keys are read by
//! a thread of their own, which ends with the process: a read from a terminal cannot be taken
//! back.

use super::model::{Action, Model};
use super::view;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use std::io;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The terminal while it shows services.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    events: UnboundedReceiver<io::Result<Event>>,
    colours: bool,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open(colours: bool) -> io::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| {
            // It may have been taken in part. The error that is told is the first one.
            let _ = ratatui::try_restore();
        })?;
        let (sender, events) = unbounded_channel();
        let screen = Self {
            terminal,
            events,
            colours,
        };
        std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(move || {
                loop {
                    let event = event::read();
                    let is_last = event.is_err();
                    if sender.send(event).is_err() || is_last {
                        break;
                    }
                }
            })?;
        Ok(screen)
    }

    /// Shows what is known at this moment.
    pub(super) fn draw(&mut self, model: &Model, now: Instant) -> io::Result<()> {
        let colours = self.colours;
        self.terminal
            .draw(|frame| view::draw(frame, model, now, colours))?;
        Ok(())
    }

    /// Waits for a key that means something, or for another size of the terminal.
    pub(super) async fn next_action(&mut self) -> io::Result<Action> {
        loop {
            let event = self.events.recv().await;
            let event = event.ok_or(io::ErrorKind::UnexpectedEof)??;
            if let Some(action) = action(&event) {
                return Ok(action);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After a panic the hook has done it already.
        if !std::thread::panicking() {
            // If the terminal is gone there is nothing to restore.
            let _ = self.terminal.show_cursor();
            let _ = ratatui::try_restore();
        }
    }
}

/// What an event asks for.
fn action(event: &Event) -> Option<Action> {
    let key = match event {
        Event::Resize(..) => return Some(Action::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Action::Quit);
    }
    Some(match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Action::Quit,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Action::PageDown,
        KeyCode::Home => Action::Home,
        KeyCode::End => Action::End,
        KeyCode::Char('s') => Action::Sort,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    #[test]
    fn keys_are_those_of_the_last_line() {
        let check = |code, modifiers, expected| {
            let event = Event::Key(KeyEvent::new(code, modifiers));
            assert_eq!(action(&event), expected, "{code:?}");
        };
        let plain = KeyModifiers::NONE;
        for (code, expected) in [
            (KeyCode::Char('q'), Action::Quit),
            (KeyCode::Esc, Action::Quit),
            (KeyCode::Up, Action::Up),
            (KeyCode::Char('k'), Action::Up),
            (KeyCode::Down, Action::Down),
            (KeyCode::Char('j'), Action::Down),
            (KeyCode::PageUp, Action::PageUp),
            (KeyCode::PageDown, Action::PageDown),
            (KeyCode::Char('s'), Action::Sort),
        ] {
            check(code, plain, Some(expected));
        }
        check(
            KeyCode::Char('c'),
            KeyModifiers::CONTROL,
            Some(Action::Quit),
        );
        check(KeyCode::Char('c'), plain, None);
        assert_eq!(action(&Event::Resize(1, 1)), Some(Action::Redraw));
        assert_eq!(action(&Event::FocusLost), None);
    }
}
