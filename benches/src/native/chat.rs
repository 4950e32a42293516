//! A chat room with Tokio: a task per member that reads, another that writes what is in
//! its queue. It says what the embedded `chat` says.

use crate::client::chat::{WELCOME, joined, said};
use anyhow::Result;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The queues of all members, by name.
type Members = Rc<RefCell<HashMap<String, UnboundedSender<Rc<str>>>>>;

/// Serves at any port of loopback.
pub(super) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening tcp://{}", listener.local_addr()?);
    let members = Members::default();
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(serve_member(stream, peer.to_string(), members.clone()));
    }
}

async fn serve_member(stream: TcpStream, name: String, members: Members) {
    let (reading, writing) = stream.into_split();
    let (queue, lines) = unbounded_channel();
    let _ = queue.send(WELCOME.into());
    broadcast(&members, &name, joined(&name).into());
    members.borrow_mut().insert(name.clone(), queue);
    tokio::task::spawn_local(write_lines(writing, lines));
    let mut reading = BufReader::new(reading);
    let mut line = String::new();
    while let Ok(1..) = reading.read_line(&mut line).await {
        broadcast(&members, &name, said(&name, &line).into());
        line.clear();
    }
    members.borrow_mut().remove(&name);
}

fn broadcast(members: &Members, from: &str, line: Rc<str>) {
    for (name, queue) in &*members.borrow() {
        if name != from {
            // A member that is gone takes nothing, and leaves by itself.
            let _ = queue.send(Rc::clone(&line));
        }
    }
}

async fn write_lines(mut writing: OwnedWriteHalf, mut lines: UnboundedReceiver<Rc<str>>) {
    while let Some(line) = lines.recv().await {
        if writing.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}
