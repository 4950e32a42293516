//! A listener for those who only look: a page for browsers, metrics, health, the status as
//! JSON. Nothing can be changed there, and whoever reaches the address may ask.
//!
//! A client costs a place. Clients that are slow lose theirs when others come, so that none
//! of them keeps a probe of `/healthz` waiting.
//!
//! A page of any site can be loaded under a name that its owner then points to 127.0.0.1 (DNS
//! rebinding), and would be taken by the browser for a page of ours. So a listener on a
//! loopback address answers no request for the name of another host. Names with a dot are such
//! names, but those of localhost. Any other address is in a network, where names for it are
//! the operator's affair, and where everybody may ask anyway.

use crate::control::http::{self, Kind};
use crate::control::page::{PAGE, POLICY};
use crate::control::server::encode_error;
use crate::control::{StatusReply, health, metrics};
use crate::registry::Registry;
use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The most connections at once.
const MAX_CONNECTIONS: usize = 32;
/// How long a client has its place for sure. Then it is dropped if others wait, the one that
/// came first before the others.
const SURE_TIME: Duration = Duration::from_millis(100);
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a client may take to read the answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The most bytes that are read after a request, before the connection is closed.
const REST: u64 = 64 << 10;
/// The pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A status, and what is answered with it.
type Answer = (StatusCode, Kind, Vec<u8>);

/// A listener that answers who asks how the services are.
#[derive(Debug)]
pub struct Observer {
    listener: std::net::TcpListener,
}

impl Observer {
    /// Binds the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// The address that it has.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests about the services of `registry` until the future is dropped.
    ///
    /// Fails if the system does not let it wait for clients.
    pub async fn run(&self, registry: Arc<Registry>) -> io::Result<Infallible> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let is_loopback = listener.local_addr()?.ip().to_canonical().is_loopback();
        let mut clients = Clients::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // The control socket says what the process has run out of.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let place = clients.place().await.map_err(io::Error::other)?;
            let registry = Arc::clone(&registry);
            let client = tokio::spawn(async move {
                serve_connection(stream, &registry, is_loopback).await;
                drop(place);
            });
            clients.add(client.abort_handle());
        }
    }
}

/// The clients that have a place, the one that came first before the others.
struct Clients {
    places: Arc<Semaphore>,
    all: VecDeque<(Instant, AbortHandle)>,
}

impl Clients {
    fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            all: VecDeque::new(),
        }
    }

    /// Waits for a place. If none becomes free, the client that has had one for the longest
    /// time loses it.
    async fn place(&mut self) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        self.all.retain(|(_, client)| !client.is_finished());
        let free = Arc::clone(&self.places).acquire_owned();
        tokio::pin!(free);
        if let Some((since, oldest)) = self.all.front() {
            tokio::select! {
                biased;
                place = &mut free => return place,
                // Its place is free as soon as its task is gone.
                () = tokio::time::sleep_until(*since + SURE_TIME) => oldest.abort(),
            }
            self.all.pop_front();
        }
        free.await
    }

    fn add(&mut self, client: AbortHandle) {
        self.all.push_back((Instant::now(), client));
    }
}

/// Answers the request of one connection.
async fn serve_connection(mut stream: TcpStream, registry: &Registry, is_loopback: bool) {
    let (method, (status, kind, body)) = match http::request(&mut stream, HEAD_TIME).await {
        Ok(Some(request)) => {
            let method = request.method().clone();
            let answer = if is_loopback && is_for_another_host(request.headers()) {
                let text = "the request is for another host; write localhost or an IP address, \
                            or another Host where a proxy asks";
                refused(StatusCode::MISDIRECTED_REQUEST, text)
            } else {
                respond(registry, &method, request.uri().path())
            };
            (method, answer)
        }
        Ok(None) => return,
        Err(error) => (Method::GET, refused(error.status(), &error.to_string())),
    };
    let sending = http::answer(&mut stream, &method, status, kind, &body, REST);
    // If a client hangs up or does not read the answer, no other client is affected.
    let _ = tokio::time::timeout(ANSWER_TIME, sending).await;
}

/// Whether the request names a host that a stranger can point to a loopback address.
fn is_for_another_host(fields: &HeaderMap) -> bool {
    fields.get_all(HOST).iter().any(|host| {
        let authority = Authority::try_from(host.as_bytes());
        let is_ours = authority.is_ok_and(|authority| is_of_this_machine(authority.host()));
        !host.is_empty() && !is_ours
    })
}

/// Whether a host is an IP address, localhost, or a name without a dot, as the machine has it
/// for itself.
fn is_of_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

fn refused(status: StatusCode, text: &str) -> Answer {
    (status, Kind::Json, encode_error(text))
}

fn respond(registry: &Registry, method: &Method, path: &str) -> Answer {
    let failed = |text: String| refused(StatusCode::INTERNAL_SERVER_ERROR, &text);
    if !matches!(*method, Method::GET | Method::HEAD) {
        let text = "nothing can be changed here; use the control socket";
        return refused(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    match path {
        "/" => (StatusCode::OK, Kind::Page(&POLICY), PAGE.into()),
        "/metrics" => match metrics::figures(registry) {
            Ok(text) => (StatusCode::OK, Kind::Text, text.into_bytes()),
            Err(error) => failed(error.to_string()),
        },
        "/healthz" | "/readyz" => {
            let (status, line) = health(registry, path == "/readyz");
            (status, Kind::Plain, line)
        }
        "/v1/status" => {
            let services = registry.all().iter().map(|it| it.status()).collect();
            match serde_json::to_vec(&StatusReply { services }) {
                Ok(body) => (StatusCode::OK, Kind::Json, body),
                Err(error) => failed(error.to_string()),
            }
        }
        _ => refused(
            StatusCode::NOT_FOUND,
            &format!("there is no {path}; there are /, /metrics, /healthz, /readyz and /v1/status"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_stranger_can_have_is_none_of_ours() {
        let is_for_another = |host: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(HOST, host.parse().unwrap());
            is_for_another_host(&fields)
        };
        for host in [
            "127.0.0.1:9090",
            "127.0.0.2",
            "[::1]:9090",
            "localhost",
            "LocalHost:9090",
            "localhost.",
            "sockserve.localhost:1",
            "machine:9090",
            "",
        ] {
            assert!(!is_for_another(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "evil.example.",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost.example",
            "a b",
        ] {
            assert!(is_for_another(host), "{host}");
        }
        assert!(
            !is_for_another_host(&HeaderMap::new()),
            "HTTP/1.0 may have none"
        );
        let mut two = HeaderMap::new();
        two.append(HOST, "localhost".parse().unwrap());
        two.append(HOST, "evil.example".parse().unwrap());
        assert!(is_for_another_host(&two));
    }
}
