//! The side of the control plane that asks.

use crate::control::ErrorReply;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Why a request came to nothing. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error(
        "nobody answers on the control socket {0}: {1}; start a service with --control {path}",
        path = .0.display()
    )]
    Connect(PathBuf, io::Error),
    /// The conversation broke off.
    #[error("the control socket: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be written.
    #[error("the request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The answer is not what it should be.
    #[error("the control socket's answer: {0}")]
    Reply(#[from] serde_json::Error),
    /// The other side refused, and says why.
    #[error("{0}")]
    Refused(String),
}

/// Asks for `path`, with the method GET, or POST if there is a `body`.
pub async fn ask<R: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<R, ClientError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| ClientError::Connect(socket.to_owned(), error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let talking = tokio::spawn(connection);
    let (method, body) = match body {
        Some(body) => (Method::POST, serde_json::to_vec(body)?),
        None => (Method::GET, Vec::new()),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "sockserve")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let refused = !response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    // The answer is complete; how the connection ends does not matter.
    talking.abort();
    if refused {
        let reply: ErrorReply = serde_json::from_slice(&body)?;
        return Err(ClientError::Refused(reply.error));
    }
    Ok(serde_json::from_slice(&body)?)
}
