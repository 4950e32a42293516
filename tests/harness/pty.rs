//! A pseudo-terminal with a program on it, and the screen as somebody who sits there sees it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use nix::pty::{Winsize, openpty};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Termios, tcgetattr, tcsetwinsize};

use super::PATIENCE;

/// A program on a terminal of its own. Dropping it kills it.
pub(crate) struct Terminal {
    child: Child,
    /// The side of who sits there.
    typing: File,
    /// The other side, kept open so that its settings can be looked at after the program's end.
    line: File,
    seen: Arc<Seen>,
    before: Termios,
}

#[derive(Default)]
struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    screen: Screen,
    ended: bool,
}

impl Terminal {
    /// Starts `sockserve` with these arguments on a terminal of so many columns and rows.
    #[track_caller]
    pub(crate) fn start<A: AsRef<OsStr>>(
        (columns, rows): (u16, u16),
        variables: &[(&str, &str)],
        args: impl IntoIterator<Item = A>,
    ) -> Terminal {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let line = File::from(pty.slave);
        let typing = File::from(pty.master);
        let before = tcgetattr(&line).unwrap();
        let side = || Stdio::from(line.try_clone().unwrap());
        // It makes the terminal the controlling one, as a login does: sizes, Ctrl-C and
        // hang-ups come from there.
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_sockserve")])
            .args(args)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR")
            .envs(variables.iter().copied())
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        let seen = Arc::new(Seen::default());
        let (shared, mut output) = (Arc::clone(&seen), typing.try_clone().unwrap());
        seen.update(|state| state.screen.resize(columns, rows));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end too: no side of the terminal is open any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shared.update(|state| state.screen.write(&bytes[..count]));
            }
            shared.update(|state| state.ended = true);
        });
        Terminal {
            child,
            typing,
            line,
            seen,
            before,
        }
    }

    /// Types on it.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.typing.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.seen.update(|state| state.screen.resize(columns, rows));
        let mut size = rustix::termios::tcgetwinsize(&self.line).unwrap();
        (size.ws_col, size.ws_row) = (columns, rows);
        tcsetwinsize(&self.line, size).unwrap();
    }

    /// Waits until what is on the screen is as wanted, and gives its lines.
    #[track_caller]
    pub(crate) fn wait_for(
        &self,
        what: &str,
        mut wanted: impl FnMut(&[String]) -> bool,
    ) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.seen.lock();
        loop {
            let lines = state.screen.lines();
            if wanted(&lines) {
                return lines;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!state.ended, "it ended without {what}: {lines:#?}");
            assert!(!left.is_zero(), "waited too long for {what}: {lines:#?}");
            (state, _) = self
                .seen
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a text is on the screen, and gives the line that has it.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, text: &str) -> String {
        let has = |line: &String| line.contains(text);
        let lines = self.wait_for(text, |lines| lines.iter().any(has));
        lines.into_iter().find(has).unwrap()
    }

    /// Everything that was written to the terminal so far.
    pub(crate) fn raw(&self) -> String {
        let state = self.seen.lock();
        String::from_utf8_lossy(&state.screen.raw).into_owned()
    }

    /// Waits until the program has ended, and checks that it left the terminal as it was: its
    /// modes, the screen that was there, the cursor. Gives the status and the lines.
    #[track_caller]
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:#?}",
                self.seen.lock().screen.lines()
            );
            std::thread::yield_now();
        };
        self.check_modes();
        // This comes behind all that the program has written.
        self.line.write_all(b"--end--").unwrap();
        let lines = self.wait_for("the end", |lines| lines.concat().contains("--end--"));
        let state = self.seen.lock();
        assert!(!state.screen.is_alternate, "another screen is shown");
        assert!(!state.screen.is_cursor_hidden, "there is no cursor");
        (status, lines)
    }

    #[track_caller]
    fn check_modes(&self) {
        let after = tcgetattr(&self.line).unwrap();
        let modes = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert_eq!(
            after.local_modes & modes,
            self.before.local_modes & modes,
            "the terminal is not as it was"
        );
        assert!(after.local_modes.contains(modes));
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A screen of characters: as much of a terminal as what draws with positions needs.
#[derive(Default)]
struct Screen {
    raw: Vec<u8>,
    /// Of a sequence or a character that is not complete.
    rest: Vec<u8>,
    cells: Vec<Vec<char>>,
    columns: usize,
    at: (usize, usize),
    is_alternate: bool,
    is_cursor_hidden: bool,
}

impl Screen {
    fn resize(&mut self, columns: u16, rows: u16) {
        self.columns = columns.into();
        self.cells.resize(rows.into(), Vec::new());
        for row in &mut self.cells {
            row.resize(self.columns, ' ');
        }
    }

    fn lines(&self) -> Vec<String> {
        let rows = self.cells.iter();
        let lines = rows.map(|row| row.iter().collect::<String>().trim_end().to_owned());
        lines.collect()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        // A character that is cut at the end of a read waits for the next one.
        let whole = match std::str::from_utf8(&rest) {
            Ok(_) => rest.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = std::str::from_utf8(&rest[..whole]).unwrap();
        let taken = self.write_text(text);
        self.rest = rest[taken..].to_vec();
    }

    /// Writes text, and says how many bytes of it are complete.
    fn write_text(&mut self, text: &str) -> usize {
        let mut at = 0;
        while let Some(character) = text[at..].chars().next() {
            let after = &text[at + character.len_utf8()..];
            match character {
                '\u{1b}' => match after.strip_prefix('[') {
                    Some(sequence) => {
                        let Some(end) = sequence.find(|c: char| ('@'..='~').contains(&c)) else {
                            return at;
                        };
                        self.control(&sequence[..end], sequence.as_bytes()[end]);
                        at += 2 + end + 1;
                        continue;
                    }
                    None if after.is_empty() => return at,
                    // No other sequence is used; two characters are left out.
                    None => {
                        at += 2;
                        continue;
                    }
                },
                '\r' => self.at.0 = 0,
                '\n' => self.at.1 += 1,
                character => {
                    let (column, row) = self.at;
                    let cell = self.cells.get_mut(row).and_then(|row| row.get_mut(column));
                    if let Some(cell) = cell {
                        *cell = character;
                    }
                    self.at.0 += 1;
                }
            }
            at += character.len_utf8();
        }
        at
    }

    /// Does what a control sequence asks for.
    fn control(&mut self, parameters: &str, kind: u8) {
        let mut numbers = parameters
            .split(';')
            .map(|number| number.parse().unwrap_or(1));
        match (kind, parameters) {
            (b'H', _) => {
                let (row, column): (usize, usize) =
                    (numbers.next().unwrap_or(1), numbers.next().unwrap_or(1));
                self.at = (column - 1, row - 1);
            }
            (b'J', _) => self.clear(),
            (b'h', "?1049") => {
                self.is_alternate = true;
                self.clear();
            }
            // What was there before is not kept here.
            (b'l', "?1049") => {
                self.is_alternate = false;
                self.clear();
                self.at = (0, 0);
            }
            (b'l', "?25") => self.is_cursor_hidden = true,
            (b'h', "?25") => self.is_cursor_hidden = false,
            _ => {}
        }
    }

    fn clear(&mut self) {
        for row in &mut self.cells {
            row.fill(' ');
        }
    }
}
