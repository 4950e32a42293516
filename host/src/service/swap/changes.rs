//! What a swap changes beside the component: the environment, limits, and the dispatch.

use super::SwapError;
use crate::contract::Dispatch;
use crate::guest::handler::{Handler, HandlerOptions};
use crate::limits::{LimitChanges, Limits};

/// Settings that are others from a swap on. What is not named stays as it is.
///
/// Grants are not among them: a swap brings other code, but what code may do was decided
/// by who started the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingChanges {
    /// Variables of the handler's environment that are set.
    pub env: Vec<(String, String)>,
    /// Variables that are taken away.
    pub unset_env: Vec<String>,
    /// Limits with other values.
    pub limits: LimitChanges,
    /// Another dispatch. `None` leaves it as it is.
    pub dispatch: Option<Dispatch>,
}

impl SettingChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the options of a handler after the change. `limits` are the service's. An
    /// error if a variable is to be taken away that is not there.
    pub(super) fn applied(
        &self,
        before: &HandlerOptions,
        limits: &Limits,
    ) -> Result<HandlerOptions, SwapError> {
        let mut options = before.clone();
        options.dispatch = self.dispatch.unwrap_or(before.dispatch);
        let env = &mut options.grants.env;
        for name in &self.unset_env {
            let is_set = self.env.iter().any(|(it, _)| it == name);
            if is_set || !env.iter().any(|(it, _)| it == name) {
                return Err(SwapError::NoVariable(name.clone()));
            }
            env.retain(|(it, _)| it != name);
        }
        for (name, value) in &self.env {
            // Of a name that is there twice the last counts.
            match env.iter_mut().rfind(|(it, _)| it == name) {
                Some((_, had)) => had.clone_from(value),
                None => env.push((name.clone(), value.clone())),
            }
        }
        if !self.limits.is_empty() {
            // A reload may have changed those of the service since the handler was made.
            options.limits = Limits {
                max_memory_bytes: before.limits.max_memory_bytes,
                deadline: before.limits.deadline,
                ..limits.clone()
            };
            self.limits.apply(&mut options.limits);
        }
        Ok(options)
    }
}

/// Whether a handler has these settings already.
pub(super) fn has_settings(handler: &Handler, options: &HandlerOptions) -> bool {
    let had = handler.options();
    had.grants.env == options.grants.env
        && had.limits == options.limits
        && had.dispatch == options.dispatch
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let words = text.split_whitespace();
        let pairs = words.filter_map(|word| word.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut before = HandlerOptions::new(Dispatch::Poll);
        before.grants.env = pairs("A=1 B=2 A=3 C=4");
        before.limits.max_memory_bytes = 1 << 20;
        let of_service = Limits {
            idle_timeout: Some(Duration::from_secs(5)),
            ..Limits::default()
        };
        let changes = SettingChanges {
            env: pairs("A=5 D=6"),
            unset_env: vec!["B".to_owned()],
            ..SettingChanges::default()
        };
        let after = changes.applied(&before, &of_service).unwrap();
        assert_eq!(after.grants.env, pairs("A=1 A=5 C=4 D=6"));
        assert_eq!(
            (&after.limits, after.dispatch),
            (&before.limits, Dispatch::Poll)
        );
        let mut limits = LimitChanges::default();
        limits.set("deadline", "20ms").unwrap();
        let changes = SettingChanges {
            limits,
            dispatch: Some(Dispatch::Threaded),
            ..SettingChanges::default()
        };
        let after = changes.applied(&before, &of_service).unwrap();
        assert_eq!(after.grants.env, before.grants.env);
        let expected = Limits {
            max_memory_bytes: 1 << 20,
            deadline: Duration::from_millis(20),
            ..of_service
        };
        assert_eq!(
            (after.limits, after.dispatch),
            (expected, Dispatch::Threaded)
        );
    }

    #[test]
    fn a_variable_that_is_not_there_is_not_taken_away() {
        let before = HandlerOptions::new(Dispatch::Poll);
        for env in ["", "A=1"] {
            let changes = SettingChanges {
                env: pairs(env),
                unset_env: vec!["A".to_owned()],
                ..SettingChanges::default()
            };
            let error = changes.applied(&before, &Limits::default()).unwrap_err();
            assert!(matches!(error, SwapError::NoVariable(name) if name == "A"));
        }
    }
}
