//! `--user` and `--group`: who the process is before its first peer.
//!
//! As root it opens what the user may not be able to open: its addresses, the control
//! socket, the log file. Everything else is opened as the user, also at the start: the
//! component, the cache, granted directories and the state file are opened again by a swap
//! or at the end, and what only root can open has to be found out before that.

use super::options::{GroupNumber, NotKnown, parse_group};
use crate::cli::Failure;
use crate::socket_file::SocketFile;
use anyhow::{Context as _, anyhow};
use clap::Args;
use nix::unistd::{Gid, Uid, User, getgrouplist, getresgid, getresuid, setgid, setgroups, setuid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::ffi::CString;

#[derive(Args, Default)]
pub(in crate::cli) struct IdentityOptions {
    /// Become this user, by name or number, when all addresses are bound and before
    /// anything is read: files, also later ones, are read and written as that user
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    user: Option<Account>,
    /// The group to become, by name or number [default: that of the user]
    #[arg(long, value_name = "GROUP", value_parser = parse_group, requires = "user")]
    group: Option<GroupNumber>,
}

/// A user, as the machine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    uid: Uid,
    /// `None` for a number that no account has.
    entry: Option<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    gid: Gid,
}

/// Parses the name or the number of a user.
fn parse_user(text: &str) -> Result<Account, NotKnown> {
    let number: Option<u32> = text.parse().ok();
    let found = match number {
        // For setresuid(2) the number stands for no change.
        Some(u32::MAX) => return Err(NotKnown("no user has this number".to_owned())),
        Some(uid) => User::from_uid(Uid::from_raw(uid)),
        None => User::from_name(text),
    };
    match (found, number) {
        (Ok(Some(user)), _) => Ok(Account {
            uid: user.uid,
            entry: Some(Entry {
                name: user.name,
                gid: user.gid,
            }),
        }),
        (Ok(None) | Err(_), Some(uid)) => Ok(Account {
            uid: Uid::from_raw(uid),
            entry: None,
        }),
        (Ok(None), None) => {
            let advice = "this machine has no such user; `getent passwd` lists them";
            Err(NotKnown(advice.to_owned()))
        }
        (Err(error), None) => Err(NotKnown(format!(
            "it cannot be looked up: {error}; write its number"
        ))),
    }
}

impl IdentityOptions {
    /// Who to become. `None` if the process stays who it is.
    pub(in crate::cli) fn identity(&self) -> Result<Option<Identity>, Failure> {
        let Some(Account { uid, entry }) = &self.user else {
            return Ok(None);
        };
        let name = entry
            .as_ref()
            .map_or_else(|| uid.to_string(), |it| it.name.clone());
        let own = entry.as_ref().map(|entry| entry.gid);
        let Some(gid) = self.group.map(|group| Gid::from_raw(group.0)).or(own) else {
            return Err(Failure::usage(anyhow!(
                "--user {uid}: no account of this machine has this number, so it has no group; \
                 add --group GROUP"
            )));
        };
        let groups = match entry {
            Some(entry) => {
                let name = CString::new(entry.name.as_str())?;
                getgrouplist(&name, gid)
                    .with_context(|| format!("cannot look the groups of {} up", entry.name))?
            }
            None => vec![gid],
        };
        Ok(Some(Identity {
            name,
            uid: *uid,
            gid,
            groups,
        }))
    }
}

/// A user and its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// The numbers of the user and of its group.
    pub(in crate::cli) fn owner(&self) -> (u32, u32) {
        (self.uid.as_raw(), self.gid.as_raw())
    }

    /// Becomes the user, with all threads of the process. There is no way back.
    ///
    /// These are calls of libc: it makes all threads do the same, as POSIX asks for. The
    /// system calls themselves, which rustix makes, change the calling thread only.
    pub(in crate::cli) fn assume(&self) -> anyhow::Result<()> {
        let Self { name, uid, gid, .. } = self;
        if self.is_assumed()? {
            return Ok(());
        }
        // In this order: without the user's right the groups cannot be changed any more.
        setgroups(&self.groups)
            .and_then(|()| setgid(*gid))
            .and_then(|()| setuid(*uid))
            .with_context(|| {
                format!(
                    "cannot become the user {name}, for which the process has to be started by \
                     root; start it as root, or as {name} without --user"
                )
            })?;
        if !self.is_assumed()? {
            return Err(anyhow!("the system has not made the process {name}'s"));
        }
        // The kernel has given /proc/self to root, and wasmtime reads pagemap there. On
        // failure it does without.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        tracing::info!(user = name, uid = %uid, gid = %gid, "became the user");
        Ok(())
    }

    /// Whether the process is this user already, with nothing left to go back to.
    fn is_assumed(&self) -> nix::Result<bool> {
        let (users, groups) = (getresuid()?, getresgid()?);
        let is_user = [users.real, users.effective, users.saved] == [self.uid; 3];
        let is_group = [groups.real, groups.effective, groups.saved] == [self.gid; 3];
        Ok(is_user && is_group)
    }

    /// Says which socket files stay at the end, because their directories are others'.
    pub(in crate::cli) fn warn_of_files_that_stay<'a>(
        &self,
        files: impl IntoIterator<Item = &'a SocketFile>,
    ) {
        for file in files.into_iter().filter(|file| !file.may_be_removed()) {
            let user = &self.name;
            tracing::warn!(
                user,
                socket = %crate::text::path(file.path()),
                "the socket's file will stay at the end, because {user} may not write to its \
                 directory; the next start replaces the file"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers() {
        let root = parse_user("root").unwrap();
        assert_eq!(root, parse_user("0").unwrap());
        assert_eq!(root.entry.unwrap().name, "root");
        assert_eq!(parse_user("4000000000").unwrap().entry, None);
        assert!(parse_user("4294967295").is_err());
        let error = parse_user("no-such-user").unwrap_err().to_string();
        assert!(error.contains("getent"), "{error}");
    }

    #[test]
    fn a_number_without_an_account_needs_a_group() {
        let identity = |group| {
            let user = parse_user("4000000000").ok();
            IdentityOptions { user, group }.identity()
        };
        let refused = identity(None).unwrap_err().to_string();
        assert!(refused.contains("--group GROUP"), "{refused}");
        let identity = identity(Some(GroupNumber(7))).unwrap().unwrap();
        assert_eq!(identity.owner(), (4_000_000_000, 7));
        assert_eq!(identity.groups, [Gid::from_raw(7)]);
        assert_eq!(IdentityOptions::default().identity().unwrap(), None);
    }
}
