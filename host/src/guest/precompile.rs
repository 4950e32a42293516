//! A component that is compiled ahead of a service, so that the service starts sooner.

use crate::component::Component;
use crate::guest::engine::build;
use crate::guest::handler::{HandlerOptions, check_imports};
use crate::guest::handler_error::HandlerError;
use std::fmt;
use std::time::Duration;

/// A component with its compiled code.
#[non_exhaustive]
pub struct Precompiled {
    /// The component file: the component as it was, and a custom section with the code.
    pub file: Vec<u8>,
    /// How many bytes the code adds.
    pub code_bytes: usize,
    /// How long the compiler has taken for it.
    pub took: Duration,
}

impl fmt::Debug for Precompiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Precompiled")
            .field("file", &self.file.len())
            .field("code_bytes", &self.code_bytes)
            .field("took", &self.took)
            .finish()
    }
}

/// Compiles a component for a service with these options. `source` is its name in errors.
///
/// The code is used by [`Handler::new`](crate::Handler::new) with `allow_precompiled`, in
/// this version of the crate, on a processor with the same features, and with the same
/// `max_memory_bytes`. Otherwise the component is compiled again, and the log says so. So
/// it is if the system has less address space for the service than it had here.
pub fn precompile(
    source: &str,
    component: &Component,
    options: &HandlerOptions,
) -> Result<Precompiled, HandlerError> {
    component.contract().check(options.dispatch)?;
    check_imports(source, component)?;
    let built = build(source, component, options).map_err(|error| error.of(source))?;
    let file = built.code.in_file_of(component);
    Ok(Precompiled {
        code_bytes: file.len().saturating_sub(component.bytes().len()),
        took: built.code.took(),
        file,
    })
}
