//! The directories that a guest may use.

use super::GrantError;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::{WasiFilesystemCtx, WasiFilesystemView};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// A directory of the host that the guest may read and write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The directory on the host.
    pub host: PathBuf,
    /// Its name in the guest.
    pub guest: String,
}

impl DirGrant {
    /// Parses `HOST_DIR` or `HOST_DIR::GUEST_DIR`. The directory on the host may be
    /// any path; its name in the guest is UTF-8.
    pub fn parse(grant: &OsStr) -> Result<Self, GrantError> {
        let bytes = grant.as_bytes();
        let refused = |reason| GrantError::Dir {
            grant: bytes.to_owned(),
            reason,
        };
        let cut = bytes.windows(2).position(|pair| pair == b"::");
        let (host, guest) = match cut {
            Some(at) => (bytes.get(..at), bytes.get(at + 2..)),
            None => (Some(bytes), Some(bytes)),
        };
        let (host, guest) = (host.unwrap_or_default(), guest.unwrap_or_default());
        if host.is_empty() || guest.is_empty() {
            return Err(refused(""));
        }
        let Ok(name) = std::str::from_utf8(guest) else {
            return Err(refused("its name in the guest has to be UTF-8; "));
        };
        Ok(Self {
            host: OsStr::from_bytes(host).into(),
            guest: name.to_owned(),
        })
    }
}

/// The granted directories, which are open.
#[derive(Clone)]
pub(crate) struct Files(WasiFilesystemCtx);

impl Files {
    /// Opens the directories.
    pub(super) fn open(dirs: &[DirGrant]) -> Result<Self, GrantError> {
        let mut builder = WasiCtxBuilder::new();
        for dir in dirs {
            let unusable = |reason: String| GrantError::DirUnusable(dir.host.clone(), reason);
            std::fs::read_dir(&dir.host).map_err(|error| unusable(error.to_string()))?;
            builder
                .preopened_dir(&dir.host, &dir.guest, FsPerms::ReadWrite)
                .map_err(|error| unusable(error.root_cause().to_string()))?;
        }
        let mut files = Opened(builder.build(), ResourceTable::new());
        Ok(Self(files.filesystem().ctx.clone()))
    }

    /// Gives the directories to an instance.
    pub(crate) fn give_to(&self, instance: &mut impl WasiFilesystemView) {
        *instance.filesystem().ctx = self.0.clone();
    }
}

/// Opens directories: wasmtime-wasi does so only for a context of an instance.
struct Opened(WasiCtx, ResourceTable);

impl WasiView for Opened {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.0,
            table: &mut self.1,
        }
    }
}

impl FromStr for DirGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        Self::parse(text.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_grant_is_refused() {
        assert!("::/data".parse::<DirGrant>().is_err());
        let dir: DirGrant = "/srv/data::/data".parse().unwrap();
        assert_eq!((dir.host, dir.guest), ("/srv/data".into(), "/data".into()));
    }

    #[test]
    fn a_path_is_bytes_and_its_name_in_the_guest_is_text() {
        let bytes = OsStr::from_bytes;
        let grant = DirGrant::parse(bytes(b"/srv/\xff::/data")).unwrap();
        assert_eq!(grant.host.as_os_str(), bytes(b"/srv/\xff"));
        assert_eq!(grant.guest, "/data");
        for text in [&b"/srv/\xff"[..], b"/srv::/\xff"] {
            let error = DirGrant::parse(bytes(text)).unwrap_err().to_string();
            assert!(error.contains(r"\xff"), "{error}");
            assert!(
                error.contains("UTF-8; write HOST_DIR or HOST_DIR::GUEST_DIR"),
                "{error}"
            );
        }
    }
}
