//! An echo server with wstd, on WASI 0.2: one task per connection, in one instance.

use wstd::io;
use wstd::iter::AsyncIterator as _;
use wstd::net::TcpListener;
use wstd::runtime::spawn;

#[wstd::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening tcp://{}", listener.local_addr()?);
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await {
        let stream = stream?;
        spawn(async move {
            let (reader, writer) = stream.split();
            // A peer that resets its connection ends only its own task.
            let _ = io::copy(reader, writer).await;
        })
        .detach();
    }
    Ok(())
}
