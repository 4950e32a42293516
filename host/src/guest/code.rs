//! Compiled code of a component, from the compiler or from the cache.

use crate::component::Component;
use crate::component::cache::CompileCache;
use crate::guest::engine::{BuildError, Setup};
use wasmtime::Engine;

/// Compiled code. It is made here only: by the compiler of this process, or by
/// one before whose checksum the cache has verified.
pub(super) struct Code(Vec<u8>);

impl Code {
    /// The code of `component` for engines like `engine`.
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
        // Threads that are there while it compiles and no longer. rayon's own pool
        // would stay, and panics where a thread cannot be had.
        match rayon::ThreadPoolBuilder::new()
            .thread_name(|number| format!("compile-{number}"))
            .build()
        {
            Ok(threads) => threads.install(|| compile(engine)),
            Err(_) => compile(&setup.single_threaded().map_err(BuildError::Engine)?),
        }
    }

    /// The component, ready to be instantiated on `engine`.
    #[allow(
        unsafe_code,
        reason = "wasmtime asks for a promise about where the code comes from"
    )]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<wasmtime::component::Component> {
        // SAFETY: the bytes are what `precompile_component` has made, of this
        // process or of another one whose entry in the cache has the right
        // checksum. The cache is a directory that nobody else can write to, which
        // is checked when it is opened. wasmtime checks version and settings.
        unsafe { wasmtime::component::Component::deserialize(engine, &self.0) }
    }
}
