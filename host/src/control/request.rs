//! The bodies of requests: how large they may be, how long they may take, and what
//! they say.

use crate::component::reading::{HEAD, MAX_BYTES, may_be_component};
use crate::control::http::{Body, BodyError};
use crate::control::server::Refused;
use crate::control::{RollbackRequest, SwapRequest};
use crate::service::connections::KillRequest;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest body that is not a component, in bytes.
const MAX_BODY: usize = 64 << 10;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The most components that are received at once: each of them is in memory.
const MAX_UPLOADS: usize = 1;

/// The name of a component if the sender gives none.
const UNNAMED: &str = "application/wasm";

/// Whether the request's body is a component.
pub(super) fn is_component(request: &Request<Body<'_>>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes() == b"application/wasm")
}

/// Reads a swap request. The server reads the component itself.
pub(super) async fn read_swap(request: Request<Body<'_>>) -> Result<SwapRequest, Refused> {
    serde_json::from_slice(&read(request).await?).map_err(|error| {
        bad_request(format!(
            "the body is no swap: {error}; write {{\"component\": \"/path/to.wasm\"}}"
        ))
    })
}

/// Reads a rollback request. Without a body it is the default.
pub(super) async fn read_rollback(request: Request<Body<'_>>) -> Result<RollbackRequest, Refused> {
    let body = read(request).await?;
    if body.is_empty() {
        return Ok(RollbackRequest::default());
    }
    serde_json::from_slice(&body).map_err(|error| {
        bad_request(format!(
            "the body is no rollback: {error}; write {{\"to\": 1}}"
        ))
    })
}

/// Reads which connections to end.
pub(super) async fn read_kill(request: Request<Body<'_>>) -> Result<KillRequest, Refused> {
    serde_json::from_slice(&read(request).await?).map_err(|error| {
        bad_request(format!(
            "the body names no connections: {error}; write {{\"connections\": [1, 2]}}"
        ))
    })
}

/// Reads a body that is not a component.
async fn read(request: Request<Body<'_>>) -> Result<Vec<u8>, Refused> {
    in_time(async {
        let mut body = request.into_body();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await.map_err(unreadable)? {
            bytes.extend_from_slice(&data);
            if bytes.len() > MAX_BODY {
                let limit = MAX_BODY >> 10;
                let message = format!(
                    "the body cannot be read: length limit exceeded; it may have {limit} KiB"
                );
                return Err(bad_request(message));
            }
        }
        Ok(bytes)
    })
    .await?
}

/// A swap request with its component.
pub(super) struct Upload {
    pub(super) request: SwapRequest,
    pub(super) bytes: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl Upload {
    /// Returns the permits for uploads.
    pub(super) fn places() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MAX_UPLOADS))
    }

    /// Receives a swap whose body is the component. If the body cannot be a
    /// component, only its first bytes are kept.
    pub(super) async fn receive(
        request: Request<Body<'_>>,
        places: &Arc<Semaphore>,
    ) -> Result<Self, Refused> {
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            let message = "another component is on its way; try again when it is there";
            return Err(Refused(StatusCode::CONFLICT, message.to_owned()));
        };
        let described = parse_query(request.uri().query().unwrap_or_default());
        let body = in_time(collect(request.into_body())).await?;
        Ok(Self {
            request: described?,
            bytes: body?,
            _place: place,
        })
    }
}

/// Returns the swap that a query describes.
fn parse_query(query: &str) -> Result<SwapRequest, Refused> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let mut fields = Map::new();
    for (name, value) in pairs {
        // The fields that are no text.
        match &*name {
            "env" | "limits" => {
                let Some((key, value)) = value.split_once('=') else {
                    return Err(bad_request(format!(
                        "the query is no swap: {name}: write NAME=VALUE"
                    )));
                };
                let map = fields.entry(&*name).or_insert_with(|| Map::new().into());
                if let Value::Object(map) = map {
                    map.insert(key.to_owned(), value.into());
                }
            }
            "unset-env" => {
                let list = fields
                    .entry(&*name)
                    .or_insert_with(|| Vec::<Value>::new().into());
                if let Value::Array(list) = list {
                    list.push(value.into());
                }
            }
            _ => {
                let value = match (&*name, &*value) {
                    ("discard-state", "true") => Value::Bool(true),
                    ("discard-state", "false") => Value::Bool(false),
                    ("canary", number) => number.parse::<u32>().map_or(number.into(), Value::from),
                    (_, text) => text.into(),
                };
                fields.insert(name.into_owned(), value);
            }
        }
    }
    let name = fields.entry("component").or_insert_with(|| UNNAMED.into());
    if name.as_str().is_none_or(str::is_empty) {
        *name = UNNAMED.into();
    }
    serde_json::from_value(fields.into())
        .map_err(|error| bad_request(format!("the query is no swap: {error}")))
}

/// Reads a body to its end, even if it is already known to be wrong: a client that
/// is still sending does not read an answer.
async fn collect(mut body: Body<'_>) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    if let Some(size) = body.size()
        && let Ok(size @ 0..=MAX_BYTES) = usize::try_from(size)
    {
        bytes.try_reserve_exact(size).map_err(|_| {
            let message = "there is no memory for the component".to_owned();
            Refused(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
    }
    let mut wanted = true;
    while let Some(data) = body.data().await.map_err(unreadable)? {
        if !wanted {
            continue;
        }
        let room = MAX_BYTES.saturating_add(1).saturating_sub(bytes.len());
        bytes.extend_from_slice(data.get(..room).unwrap_or(&data));
        let head = bytes.get(..HEAD);
        wanted = bytes.len() <= MAX_BYTES && head.is_none_or(may_be_component);
    }
    if bytes.len() > MAX_BYTES {
        let message = format!("a component may have {} MiB", MAX_BYTES >> 20);
        return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(bytes)
}

/// Limits the time for reading a body.
async fn in_time<T>(reading: impl Future<Output = T>) -> Result<T, Refused> {
    let read = tokio::time::timeout(BODY_TIME, reading).await;
    read.map_err(|_| {
        let message = format!("the body was not there within {BODY_TIME:?}");
        Refused(StatusCode::REQUEST_TIMEOUT, message)
    })
}

fn unreadable(error: BodyError) -> Refused {
    bad_request(format!("the body cannot be read: {error}"))
}

fn bad_request(message: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::swap::OldConnections;

    #[test]
    fn a_query_says_what_a_swap_says() {
        let check = |query: &str, expected: SwapRequest| {
            assert_eq!(parse_query(query).ok(), Some(expected), "{query}");
        };
        let named = |component: &str| SwapRequest {
            component: Some(component.to_owned()),
            ..SwapRequest::default()
        };
        check("", named(UNNAMED));
        check("component=", named(UNNAMED));
        check("component=%2Fdev%2Fstdin", named("/dev/stdin"));
        check("component=a+b%20c&component=d%", named("d%"));
        check(
            "component=x&old=drain&drain-timeout=1s&probe=send%3D%5Cx00%2Cexpect%3D%26",
            SwapRequest {
                old: Some(OldConnections::Drain),
                drain_timeout: Some("1s".to_owned()),
                probe: Some("send=\\x00,expect=&".to_owned()),
                ..named("x")
            },
        );
        check(
            "component=x&discard-state=true",
            SwapRequest {
                discard_state: true,
                ..named("x")
            },
        );
        let env = |text: &str| {
            let pairs = text.split_whitespace().filter_map(|it| it.split_once('='));
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        };
        check(
            "component=x&env=A=1&env=B=2%3D&env=A=3&unset-env=C&unset-env=D&limits=deadline=1s&canary=5",
            SwapRequest {
                env: env("A=3 B=2="),
                unset_env: vec!["C".to_owned(), "D".to_owned()],
                limits: [("deadline".to_owned(), "1s".into())].into(),
                canary: Some(5),
                ..named("x")
            },
        );
        for query in [
            "discard-state=",
            "colour=red",
            "old=eat",
            "=",
            "%00",
            "env=A",
            "limits=",
            "canary=few",
            "canary=-1",
        ] {
            assert!(parse_query(query).is_err(), "{query}");
        }
    }
}
