//! Compiled code of a component. It comes from the compiler or from the cache.

use crate::component::Component;
use crate::component::cache::CompileCache;
use crate::guest::engine::{BuildError, Setup};
use wasmtime::Engine;

/// Compiled code. It is made only in this module: by the compiler of this process,
/// or by that of an earlier process, whose checksum the cache has verified.
pub(super) struct Code(Vec<u8>);

impl Code {
    /// Returns the code of `component` for engines with the settings of `engine`.
    pub(super) fn of(
        component: &Component,
        engine: &Engine,
        setup: &Setup<'_>,
        cache: Option<&CompileCache>,
    ) -> Result<Self, BuildError> {
        let Some(cache) = cache else {
            return Self::compile(component, engine, setup);
        };
        let key = cache.key(component, engine);
        if let Some(code) = cache.load(&key) {
            return Ok(Self(code));
        }
        let code = Self::compile(component, engine, setup)?;
        cache.store(&key, &code.0);
        Ok(code)
    }

    fn compile(
        component: &Component,
        engine: &Engine,
        setup: &Setup<'_>,
    ) -> Result<Self, BuildError> {
        let compile = |engine: &Engine| {
            let code = engine.precompile_component(component.bytes());
            code.map(Self).map_err(BuildError::Compile)
        };
        // These threads exist only during the compilation. rayon's global pool
        // would stay, and panics if the system gives no thread.
        match rayon::ThreadPoolBuilder::new()
            .thread_name(|number| format!("compile-{number}"))
            .build()
        {
            Ok(threads) => threads.install(|| compile(engine)),
            Err(_) => compile(&setup.single_threaded().map_err(BuildError::Engine)?),
        }
    }

    /// Loads the code. The result can be instantiated on `engine`.
    #[allow(
        unsafe_code,
        reason = "wasmtime asks for a promise about where the code comes from"
    )]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<wasmtime::component::Component> {
        // SAFETY: `precompile_component` has made the bytes, in this process or in
        // another one whose cache entry has the right checksum. No other user can
        // write to the cache's directory; this is checked when the cache is opened.
        // wasmtime checks the version and the settings.
        unsafe { wasmtime::component::Component::deserialize(engine, &self.0) }
    }
}
