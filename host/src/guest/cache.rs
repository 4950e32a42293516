//! Compiled components on disk.

use std::path::{Path, PathBuf};
use wasmtime::CacheConfig;

/// A directory with compiled components, from which a known one is loaded in
/// milliseconds. It is wasmtime's own cache: its entries depend on the component,
/// on wasmtime's version and on the processor, and it is tidied by itself.
#[derive(Clone, Debug)]
pub struct CompileCache {
    directory: PathBuf,
    pub(super) cache: wasmtime::Cache,
}

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {directory} as the cache of compiled components: {reason}", directory = crate::text::path(.directory))]
pub struct CacheError {
    directory: PathBuf,
    reason: String,
}

impl CompileCache {
    /// Uses a directory, and makes it if it is not there.
    ///
    /// What is in it is run without a check. It must be writable for nobody
    /// else.
    pub fn in_directory(directory: &Path) -> Result<Self, CacheError> {
        let failed = |reason: String| CacheError {
            directory: directory.to_owned(),
            reason,
        };
        let absolute = std::path::absolute(directory).map_err(|error| failed(error.to_string()))?;
        let mut config = CacheConfig::new();
        config.with_directory(&absolute);
        let cache = wasmtime::Cache::new(config)
            .map_err(|error| failed(super::failure::root_cause(&error)))?;
        Ok(Self {
            directory: absolute,
            cache,
        })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
