//! Which edits start a build.
//!
//! The tree is looked at, as `--watch` looks at its file: no edit is lost by a queue that
//! is full, by a folder that is new, or by a file system that tells nothing. A look costs
//! a few system calls per file, and the pause between two looks grows with that.
//!
//! The files as they were before a build are kept until the next look, so an edit during
//! the build is seen after it. What the build itself writes looks the same. Most of that
//! settles by itself: the next build writes the same again, and another content is needed
//! for an edit. A file that has changed in [`ROUNDS`] builds in a row, and in no pause
//! between them, is the build's.

use super::tree::{Changed, Place, Tree};
use crate::text;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// The pause between two looks is at least so many times as long as a look, so that a
/// large project costs a twentieth of a processor, but no longer than [`LONGEST`].
const PAUSE: u32 = 19;
const LONGEST: Duration = Duration::from_secs(2);

/// How long nothing may change before a build starts: an editor writes and then renames,
/// `git checkout` writes one file after the other.
const SETTLING: Duration = Duration::from_millis(50);

/// A build starts after this also if files go on to change.
const UNSETTLED: Duration = Duration::from_secs(2);

/// How many builds in a row a file changes in until it is the build's own. Before that each
/// of its changes starts a build, from the second on after a pause as long as the build
/// was: who edits a file for so long also saves it in such a pause.
const ROUNDS: u32 = 5;

/// How far the clock that stamps files may be behind: one tick of the kernel.
const BEHIND: Duration = Duration::from_millis(10);

/// What has changed in a project since the last build began.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    /// The file that was written first, and how many there are beside it.
    file: PathBuf,
    others: usize,
    /// When it was written.
    pub(super) at: Instant,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::path(&self.file))?;
        match self.others {
            0 => Ok(()),
            others => write!(f, " and {others} more"),
        }
    }
}

impl Edit {
    /// `None` if nothing has changed. `looked` is when nothing had changed yet.
    fn new(mut changed: Vec<Changed>, looked: SystemTime) -> Option<Self> {
        let (now, noticed) = (SystemTime::now(), Instant::now());
        let earliest = looked.checked_sub(BEHIND).unwrap_or(looked);
        // Other times were not set by a write: an unpacked archive has those of its files.
        let is_sane = |time: &SystemTime| (earliest..=now).contains(time);
        let written = |changed: &Changed| changed.modified.filter(is_sane).unwrap_or(now);
        changed.sort_by_key(written);
        let first = changed.first()?;
        let ago = now.duration_since(written(first)).unwrap_or_default();
        Some(Self {
            file: first.path.clone(),
            others: changed.len() - 1,
            at: noticed.checked_sub(ago).unwrap_or(noticed),
        })
    }
}

/// Looks for edits of one project.
pub(super) struct Edits {
    place: Place,
    /// What the last build began with, or what has no need of a build.
    built: Tree,
    /// The files that changed in the last build, and in how many builds without a gap.
    in_builds: BTreeMap<PathBuf, u32>,
}

impl Edits {
    /// Looks at the folder for the first time.
    pub(super) fn new(root: &Path, component: &Path) -> Self {
        let place = Place::new(root, component);
        Self {
            built: Tree::default().look(&place),
            place,
            in_builds: BTreeMap::new(),
        }
    }

    /// Waits for an edit. `build` is how long the build before took, which has just ended.
    pub(super) fn next(&mut self, build: Duration) -> Edit {
        self.in_build(build)
            .unwrap_or_else(|| self.between_builds())
    }

    /// Waits for an edit while no build runs.
    fn between_builds(&mut self) -> Edit {
        loop {
            let began = Instant::now();
            let now = self.look(&self.built);
            for changed in now.changed_since(&self.built) {
                self.in_builds.remove(&changed.path);
            }
            if let Some(edit) = self.settle(now) {
                return edit;
            }
            let pause = began.elapsed() * PAUSE;
            thread::sleep(pause.clamp(INTERVAL, LONGEST));
        }
    }

    /// The edit that there was while the build ran, if there was one.
    fn in_build(&mut self, build: Duration) -> Option<Edit> {
        // What others write when they are told that the build is done belongs to it: a log
        // may pass through `tee` into the folder.
        thread::sleep(INTERVAL);
        let now = self.look(&self.built);
        let before = std::mem::take(&mut self.in_builds);
        let mut found = Vec::new();
        for Changed { path, .. } in now.changed_since(&self.built) {
            let rounds = before.get(&path).copied().unwrap_or(0);
            if rounds + 1 == ROUNDS {
                found.push(text::path(&path).into_owned());
            }
            self.in_builds.insert(path, (rounds + 1).min(ROUNDS + 1));
        }
        if !found.is_empty() {
            tracing::warn!(
                "{} changed in {ROUNDS} builds in a row, so the build itself writes it; what it \
                 changes there starts no other build. Name it in .gitignore, or save it once \
                 more if it was you",
                found.join(", ")
            );
        }
        let least = self.in_builds.values().copied().min().unwrap_or(0);
        if least >= ROUNDS {
            self.built = now;
            if !found.is_empty() {
                // It may be a log, which has the line from above by then.
                thread::sleep(INTERVAL);
                let later = self.look(&self.built);
                for path in self.in_builds.keys() {
                    self.built.take(path, &later);
                }
            }
            return None;
        }
        if least > 1 {
            thread::sleep(build);
        }
        self.settle(now)
    }

    /// Waits until nothing changes any more since `now`, and takes what there is then for
    /// the next build. `None` if it is what the last build began with.
    fn settle(&mut self, mut now: Tree) -> Option<Edit> {
        let began = Instant::now();
        let mut is_settled = now.changed_since(&self.built).is_empty();
        while !is_settled && began.elapsed() < UNSETTLED {
            thread::sleep(SETTLING);
            let later = self.look(&now);
            let changed = later.changed_since(&now);
            is_settled = changed.is_empty();
            for changed in changed {
                // No build runs now.
                self.in_builds.remove(&changed.path);
            }
            now = later;
        }
        let edit = Edit::new(now.changed_since(&self.built), self.built.looked);
        self.built = now;
        edit
    }

    fn look(&self, before: &Tree) -> Tree {
        before.look(&self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::dev::tree::tests::Folder;

    fn edits(folder: &Folder) -> Edits {
        Edits::new(folder.path(), "it.wasm".as_ref())
    }

    #[test]
    fn what_changes_in_every_build_is_of_the_build() {
        let folder = Folder::new("rounds");
        folder.write("source", "");
        let mut edits = edits(&folder);
        let mut in_build = |content: &str| {
            folder.write("stamp", content);
            edits.in_build(Duration::ZERO).map(|edit| edit.to_string())
        };
        for round in 1..ROUNDS {
            assert_eq!(in_build(&round.to_string()).as_deref(), Some("stamp"));
        }
        assert_eq!(in_build("last"), None);
        assert_eq!(in_build("more"), None);
        // It hides no other edit.
        folder.write("source", "edited");
        assert_eq!(in_build("again").as_deref(), Some("source and 1 more"));
        assert_eq!(in_build("and again"), None);
        // Without a build it is edited by somebody, and the count begins anew.
        folder.write("stamp", "edited");
        assert_eq!(edits.between_builds().to_string(), "stamp");
        folder.write("stamp", "1");
        assert!(edits.in_build(Duration::ZERO).is_some());
    }

    #[test]
    fn a_build_with_no_change_in_it_begins_the_count_anew() {
        let folder = Folder::new("gap");
        let mut edits = edits(&folder);
        for round in 0..2 * ROUNDS {
            folder.write("stamp", &round.to_string());
            assert!(edits.in_build(Duration::ZERO).is_some(), "{round}");
            if round % (ROUNDS - 1) == 0 {
                assert!(edits.in_build(Duration::ZERO).is_none(), "{round}");
            }
        }
    }

    #[test]
    fn an_edit_is_named_by_what_was_written_first() {
        let looked = SystemTime::now();
        let at = |path: &str, modified| Changed {
            path: path.into(),
            modified,
        };
        let long_ago = Some(SystemTime::UNIX_EPOCH);
        let edit = |changed| Edit::new(changed, looked).unwrap();
        let gone = edit(vec![at("gone", None)]);
        assert_eq!((gone.to_string().as_str(), gone.others), ("gone", 0));
        // A time that no write has set counts as now.
        let both = edit(vec![at("a", long_ago), at("b", Some(looked))]);
        assert_eq!(both.to_string(), "b and 1 more");
        let hour = Duration::from_secs(3600);
        for modified in [long_ago, Some(looked + hour)] {
            assert!(edit(vec![at("a", modified)]).at.elapsed() < hour);
        }
        assert!(Edit::new(Vec::new(), looked).is_none());
    }
}
