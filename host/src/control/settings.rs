//! What a request to swap says of settings: it is checked here, with the parsers that the
//! options of `serve` have.

use crate::control::SwapRequest;
use crate::control::server::Refused;
use crate::guest::grants::Grants;
use crate::limits::{LimitChanges, parse_time};
use crate::service::swap::{CanaryOptions, SettingChanges, SwapOptions};
use crate::text;
use hyper::StatusCode;
use serde_json::Value;
use std::fmt::Display;
use std::time::Duration;

/// Returns the options of a swap. An error names the field.
pub(super) fn swap_options(request: &SwapRequest) -> Result<SwapOptions, Refused> {
    let probe = match &request.probe {
        Some(text) => Some(text.parse().map_err(refused)?),
        None => None,
    };
    Ok(SwapOptions {
        old: request.old,
        drain_timeout: time("drain-timeout", request.drain_timeout.as_deref())?,
        probe,
        discard_state: request.discard_state,
        changes: changes(request)?,
        canary: canary(request)?,
    })
}

fn changes(request: &SwapRequest) -> Result<SettingChanges, Refused> {
    let mut changes = SettingChanges::default();
    for (name, value) in &request.env {
        let shown = text::escape(name);
        if name.contains(['=', '\0']) || value.contains('\0') {
            let reason = "neither a name nor a value has a NUL byte, and a name has no `=`";
            return Err(refused(format!("env: {shown}: {reason}")));
        }
        let variable = Grants::parse_env(&format!("{name}={value}"));
        let variable = variable.map_err(|error| refused(format!("env: {error}")))?;
        changes.env.push(variable);
    }
    changes.unset_env.clone_from(&request.unset_env);
    changes.limits = limits(request)?;
    let dispatch = request.dispatch.as_deref().map(str::parse).transpose();
    changes.dispatch = dispatch.map_err(|error: String| refused(format!("dispatch: {error}")))?;
    Ok(changes)
}

fn limits(request: &SwapRequest) -> Result<LimitChanges, Refused> {
    let mut limits = LimitChanges::default();
    for (name, value) in &request.limits {
        let shown = text::escape(name);
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(refused(format!(
                    "limits: {shown}: write a text or a number"
                )));
            }
        };
        let set = limits.set(name, &value);
        set.map_err(|error| refused(format!("limits: {shown}: {error}")))?;
    }
    Ok(limits)
}

fn canary(request: &SwapRequest) -> Result<Option<CanaryOptions>, Refused> {
    let time = time("canary-for", request.canary_for.as_deref())?;
    let Some(percent) = request.canary else {
        return match time {
            None => Ok(None),
            Some(_) => Err(refused("canary-for: it has no effect without canary")),
        };
    };
    let percent = CanaryOptions::parse_percent(&percent.to_string());
    Ok(Some(CanaryOptions {
        percent: percent.map_err(|error| refused(format!("canary: {error}")))?,
        time: time.unwrap_or(CanaryOptions::TIME),
    }))
}

fn time(field: &str, text: Option<&str>) -> Result<Option<Duration>, Refused> {
    let parsed = text.map(parse_time).transpose();
    parsed.map_err(|error| refused(format!("{field}: {error}")))
}

fn refused(message: impl Display) -> Refused {
    Refused(StatusCode::BAD_REQUEST, message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Dispatch;
    use serde_json::json;

    #[test]
    fn a_refusal_names_the_field() {
        for (request, expected) in [
            (json!({"env": {"": "x"}}), "env: "),
            (json!({"env": {"A=B": "x"}}), "env: A=B: "),
            (json!({"env": {"A": "\0"}}), "env: A: "),
            (
                json!({"limits": {"colour": "red"}}),
                "limits: colour: no such limit",
            ),
            (
                json!({"limits": {"max-memory": "red"}}),
                "limits: max-memory: write a size",
            ),
            (
                json!({"limits": {"max-memory": null}}),
                "limits: max-memory: write a text",
            ),
            (
                json!({"limits": {"deadline": "0s"}}),
                "limits: deadline: it must be longer",
            ),
            (json!({"dispatch": "eager"}), "dispatch: write sequential, "),
            (
                json!({"canary": 0}),
                "canary: it must be a whole number from 1 to 100",
            ),
            (json!({"canary": 101}), "canary: it must be"),
            (json!({"canary-for": "1s"}), "canary-for: it has no effect"),
            (
                json!({"canary": 1, "canary-for": "soon"}),
                "canary-for: it is no time",
            ),
            (
                json!({"drain-timeout": "soon"}),
                "drain-timeout: it is no time",
            ),
        ] {
            let parsed: SwapRequest = serde_json::from_value(request.clone()).unwrap();
            let Err(Refused(status, error)) = swap_options(&parsed) else {
                panic!("taken: {request}");
            };
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_request_says_what_the_options_say() {
        let request = json!({
            "env": {"A": "1=2"}, "unset-env": ["B"],
            "limits": {"max-connections": 7, "idle-timeout": "2s"},
            "canary": 5,
            "dispatch": "poll",
        });
        let request: SwapRequest = serde_json::from_value(request).unwrap();
        let Ok(options) = swap_options(&request) else {
            panic!("refused");
        };
        let changes = options.changes;
        assert_eq!(changes.env, [("A".to_owned(), "1=2".to_owned())]);
        assert_eq!(changes.unset_env, ["B"]);
        assert_eq!(changes.limits.max_connections, Some(7));
        assert_eq!(changes.limits.idle_timeout, Some(Duration::from_secs(2)));
        assert_eq!(changes.dispatch, Some(Dispatch::Poll));
        let canary = options.canary.unwrap();
        assert_eq!((canary.percent, canary.time), (5, CanaryOptions::TIME));
    }
}
