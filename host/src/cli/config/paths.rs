//! Paths in a configuration file are relative to the file's directory, wherever the process
//! was started.

use super::keys::Key;
use crate::component::builtin;
use crate::{DirGrant, ListenAddress};
use clap::ValueHint;
use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where relative paths of a file begin.
#[derive(Clone, Debug)]
pub(super) struct Base(PathBuf);

impl Base {
    pub(super) fn of(file: &Path) -> Self {
        let directory = match file.parent() {
            Some(directory) if directory != "" => directory,
            _ => Path::new("."),
        };
        // That fails if the process is in a directory that is gone; then the paths lead
        // nowhere in any case.
        Self(std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned()))
    }

    /// Returns a value with its path, if it has one, made absolute.
    pub(super) fn resolve(&self, key: &Key, value: &str) -> OsString {
        let kind = key.arg.get_value_parser().type_id();
        if kind == TypeId::of::<DirGrant>() {
            return self.directory(value);
        }
        if kind == TypeId::of::<ListenAddress>() {
            return self.socket(value);
        }
        match key.arg.get_value_hint() {
            ValueHint::FilePath | ValueHint::AnyPath | ValueHint::DirPath => {
                if value.is_empty() || builtin::is_builtin(value.as_ref()) {
                    value.into()
                } else {
                    self.0.join(value).into()
                }
            }
            // A list may be in a file.
            _ => match value.strip_prefix('@') {
                Some(path) if key.value_name().contains("@FILE") => {
                    let mut list = OsString::from("@");
                    list.push(self.0.join(path));
                    list
                }
                _ => value.into(),
            },
        }
    }

    /// `HOST_DIR` or `HOST_DIR::GUEST_DIR`. The guest sees the name that was written.
    fn directory(&self, value: &str) -> OsString {
        let (host, guest) = value.split_once("::").unwrap_or((value, value));
        if host.is_empty() || guest.is_empty() || Path::new(host).is_absolute() {
            return value.into();
        }
        let mut grant = self.0.join(host).into_os_string();
        grant.push("::");
        grant.push(guest);
        grant
    }

    /// A listen address. A Unix socket may have a relative path.
    fn socket(&self, value: &str) -> OsString {
        let Some((scheme, path)) = value.split_once(':') else {
            return value.into();
        };
        let is_unix = ["unix", "unix+dgram"].contains(&scheme.to_ascii_lowercase().as_str());
        if !is_unix || path.is_empty() || path.starts_with(['@', '/']) {
            return value.into();
        }
        let mut address = OsString::from(format!("{scheme}:"));
        address.push(self.0.join(path));
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::keys::Keys;
    use crate::cli::serve::{ProcessOptions, ServiceKeys};

    #[test]
    fn paths_begin_at_the_file() {
        let base = Base::of("/etc/x/sockserve.toml".as_ref());
        let keys = Keys::of::<ServiceKeys>();
        let check = |key: &str, value: &str, expected: &str| {
            let key = keys.find(key).unwrap();
            assert_eq!(base.resolve(key, value), expected, "{value}");
        };
        check("component", "echo.wasm", "/etc/x/echo.wasm");
        check("component", "/srv/echo.wasm", "/srv/echo.wasm");
        check("component", "builtin:echo-evented", "builtin:echo-evented");
        check("component", "", "");
        check("state-file", "state", "/etc/x/state");
        check("cache", "../cache", "/etc/x/../cache");
        check("dir", "data", "/etc/x/data::data");
        check("dir", "data::/d", "/etc/x/data::/d");
        check("dir", "/srv::/d", "/srv::/d");
        check("dir", "::/d", "::/d");
        check("listen", "unix:x.sock", "unix:/etc/x/x.sock");
        check("listen", "unix+dgram:x", "unix+dgram:/etc/x/x");
        check("listen", "unix:@x", "unix:@x");
        check("listen", "unix:///x", "unix:///x");
        check("listen", "tcp://x:1", "tcp://x:1");
        check("env", "a/b", "a/b");
        check("allow", "@allowed", "@/etc/x/allowed");
        check("allow", "@/allowed", "@/allowed");
        check("allow", "10.0.0.0/8", "10.0.0.0/8");
        check("banner", "@x", "@x");
        let keys = Keys::of::<ProcessOptions>();
        let control = keys.find("control").unwrap();
        assert_eq!(base.resolve(control, "c.sock"), "/etc/x/c.sock");
        let beside = Base::of("sockserve.toml".as_ref());
        let here = std::env::current_dir().unwrap();
        assert_eq!(beside.resolve(control, "c.sock"), here.join("c.sock"));
    }
}
