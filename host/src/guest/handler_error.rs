//! Why a component cannot be a service's handler.

use crate::contract::Incompatible;
use crate::guest::grants::GrantError;
use crate::guest::imports::Lack;

/// Why a component cannot be a service's handler. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The contract and the dispatch do not go together.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// It is a command that listens by itself, and is given nowhere to listen.
    #[error(
        "{name}: a command that listens by itself, composed of a handler; run it: sockserve run \
         {grant} 127.0.0.1:7000 {name} --listen 127.0.0.1:7000, or serve the handler"
    )]
    Composed {
        /// The command's name.
        name: String,
        /// The option that lets it.
        grant: &'static str,
    },
    /// A grant cannot be given.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// wasmtime cannot be set up with these limits.
    #[error("cannot set up the engine: {0}")]
    Engine(String),
    /// wasmtime does not accept the component.
    #[error("{name}: cannot be compiled: {reason}")]
    Compile {
        /// The component's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The component's instances take more than the limits allow.
    #[error("{name}: {reason}")]
    TooLarge {
        /// The component's name.
        name: String,
        /// What is too large, and the option to change.
        reason: String,
    },
    /// The system has too little address space, or too few memory mappings, for the
    /// instances. Older versions may still take them.
    #[error("{name}: {reason}")]
    NoRoom {
        /// The component's name.
        name: String,
        /// What is too scarce, and what would help.
        reason: String,
    },
    /// The component has an import that the host does not provide.
    #[error("{name}: imports {import}, {reason}")]
    Import {
        /// The component's name.
        name: String,
        /// The import.
        import: String,
        /// What is missing, and what would help.
        reason: String,
    },
    /// The component's imports or exports have other types than those of the host.
    #[error("{name}: does not fit: {reason}")]
    Mismatch {
        /// The component's name.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// There are several event loops, and the handler does not say that its connections
    /// are independent of each other.
    #[error(
        "{name}: its connections may depend on each other, and with --loops {loops} each \
         instance knows of its own ones only; use --loops 1, or a handler that says by \
         rolling-hand-over that they do not"
    )]
    Dependent {
        /// The component's name.
        name: String,
        /// How many loops there are.
        loops: usize,
    },
    /// The component could not be instantiated.
    #[error("{name}: {reason}")]
    Instantiate {
        /// The component's name.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

impl HandlerError {
    /// Returns the error for an import that the host does not fully provide.
    pub(crate) fn lacking(source: &str, import: String, lack: &Lack) -> Self {
        Self::Import {
            name: source.to_owned(),
            import,
            reason: lack.to_string(),
        }
    }
}
