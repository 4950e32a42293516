//! An echo with Tokio: one task per connection, with a buffer of its own.

use anyhow::Result;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

/// The size of a connection's buffer at first. It is small because many connections are
/// idle.
const SMALL: usize = 2 << 10;

/// The size of the buffer of a peer that has filled the small one.
const LARGE: usize = 64 << 10;

/// Serves at a path, or at any port of loopback.
pub(super) async fn serve(path: Option<PathBuf>) -> Result<()> {
    if let Some(path) = path {
        let listener = UnixListener::bind(&path)?;
        println!("listening unix://{}", path.display());
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening tcp://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

/// Echoes until the peer ends.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; SMALL];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let bytes = buffer.get(..read).unwrap_or_default();
        if stream.write_all(bytes).await.is_err() {
            return;
        }
        if read == SMALL && buffer.len() == SMALL {
            buffer = vec![0; LARGE];
        }
    }
}
