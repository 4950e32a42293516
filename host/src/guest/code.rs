//! Compiled code of a component. It comes from the component's own file, from another version
//! of this process, from the cache, or from the compiler.

use crate::component::Component;
use crate::component::compiled::{Compiled, Key};
use crate::guest::engine::{BuildError, Setup};
use crate::guest::handler::HandlerOptions;
use crate::guest::loaded;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::Engine;

/// What a larger component has cost is logged: somebody has waited for it.
const LARGE: usize = 1 << 20;

/// Compiled code. It is made only in this module: by the compiler of this process (also for
/// another version), or by that of an earlier process, whose checksum is verified.
pub(super) struct Code {
    key: Key,
    compiled: Compiled,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The component's own file.
    File,
    /// Another version of this process.
    Loaded,
    Cache,
    /// The compiler of this process.
    Compiler,
}

impl Code {
    /// Returns the code of `component` for engines with the settings of `engine`.
    pub(super) fn of(
        source: &str,
        component: &Component,
        engine: &Engine,
        setup: &Setup<'_>,
        options: &HandlerOptions,
    ) -> Result<Self, BuildError> {
        let key = Key::of(component, engine);
        let cache = options.cache.as_ref();
        let (origin, compiled) = if let Some(compiled) = in_file(source, component, &key, options) {
            (Origin::File, compiled)
        } else if let Some(compiled) = loaded::find(&key) {
            (Origin::Loaded, compiled)
        } else if let Some(compiled) = cache.and_then(|cache| cache.load(&key)) {
            (Origin::Cache, compiled)
        } else {
            let began = Instant::now();
            let code = compile(component, engine, setup)?;
            let took = began.elapsed();
            let compiled = Compiled { code, took };
            if let Some(cache) = cache {
                cache.store(&key, &compiled);
            }
            (Origin::Compiler, compiled)
        };
        Ok(Self {
            key,
            compiled,
            origin,
        })
    }

    /// Drops it, after an engine has loaded it as `loaded`, with all that the compiler has
    /// left behind. Says in the log what it has cost or saved; not before, because a refusal
    /// is one line.
    pub(super) fn release(
        self,
        source: &str,
        component: &Component,
        loaded: &Arc<wasmtime::component::Component>,
    ) {
        let (origin, took) = (self.origin, rounded(self.compiled.took));
        if origin != Origin::File {
            loaded::remember(self.key, loaded, self.compiled.took);
        }
        drop(self.compiled);
        if origin == Origin::Compiler {
            give_memory_back();
        }
        let component_bytes = component.bytes().len();
        match (origin, component_bytes >= LARGE) {
            (Origin::Compiler, true) => tracing::info!(component = source, ?took, "compiled"),
            (Origin::Compiler, false) => {}
            (_, is_large) => log_saved(source, took, origin, is_large),
        }
    }

    /// How long the compiler has taken for it.
    pub(super) fn took(&self) -> Duration {
        self.compiled.took
    }

    /// Returns the component with this code in its file.
    pub(super) fn in_file_of(&self, component: &Component) -> Vec<u8> {
        component.with_code(&self.compiled.section(&self.key))
    }

    /// Loads the code. The result can be instantiated on `engine`.
    #[allow(
        unsafe_code,
        reason = "wasmtime asks for a promise about where the code comes from"
    )]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<wasmtime::component::Component> {
        // SAFETY: `precompile_component` has made the bytes, in this process or in
        // another one; those of another version are copied from where it runs. Those of
        // another process have the right checksum, and come from the
        // cache, whose directory no other user can write to (this is checked when the
        // cache is opened), or from a file that the user trusts by `allow_precompiled`.
        // wasmtime checks the version and the settings.
        unsafe { wasmtime::component::Component::deserialize(engine, &self.compiled.code) }
    }
}

/// Returns the code that `sockserve compile` has added to the component, if it may be used
/// and was made for `key`.
fn in_file(
    source: &str,
    component: &Component,
    key: &Key,
    options: &HandlerOptions,
) -> Option<Compiled> {
    let section = component.code()?;
    if !options.allow_precompiled {
        tracing::info!(
            component = source,
            "the compiled code in its file is not used; trust it by --allow-precompiled"
        );
        return None;
    }
    let compiled = Compiled::in_section(key, section);
    let compiled = compiled.inspect_err(|reason| {
        tracing::warn!(
            component = source,
            "the compiled code in its file {reason}; it is compiled again here"
        );
    });
    compiled.ok()
}

fn log_saved(source: &str, saved: Duration, origin: Origin, is_large: bool) {
    let message = match origin {
        Origin::File => "the code in its file is used",
        Origin::Loaded => "the code of another version is used",
        Origin::Cache | Origin::Compiler => "the code in the cache is used",
    };
    if is_large {
        tracing::info!(component = source, ?saved, "{message}");
    } else {
        tracing::debug!(component = source, ?saved, "{message}");
    }
}

/// Whole milliseconds.
fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn compile(
    component: &Component,
    engine: &Engine,
    setup: &Setup<'_>,
) -> Result<Vec<u8>, BuildError> {
    let compile = |engine: &Engine| {
        let code = engine.precompile_component(component.bytes());
        code.map_err(BuildError::Compile)
    };
    // These threads exist only during the compilation. rayon's global pool would stay,
    // and panics if the system gives no thread.
    match rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("compile-{number}"))
        .build()
    {
        Ok(threads) => threads.install(|| compile(engine)),
        Err(_) => compile(&setup.single_threaded().map_err(BuildError::Engine)?),
    }
}

/// Gives the memory that the compiler has used back to the system. It is many times the
/// size of the component, and glibc would keep most of it for the next allocation of the
/// threads that have ended.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the C library has no safe call for it")]
fn give_memory_back() {
    // SAFETY: the call takes no pointer, and locks what it works on.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give memory back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}
