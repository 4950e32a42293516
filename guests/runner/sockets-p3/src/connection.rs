//! A connection, from its accept to its end.

use crate::event::{Event, unless};
use crate::wasi::clocks0_3_0::monotonic_clock::wait_for;
use crate::wasi::sockets0_3_0::types::{ErrorCode, TcpSocket};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter};

/// The least and the most bytes that are read at once. An idle connection has a buffer
/// of the first size; while much comes it grows.
const LEAST: usize = 1024;
const MOST: usize = 64 * 1024;

/// The most bytes that are read at once, to be dropped.
const DISCARDED: usize = 16 * 1024;

/// How a direction of a connection has ended.
pub(crate) type Ended = Result<(), ErrorCode>;

/// Both results of `receive`.
pub(crate) type Input = (StreamReader<u8>, FutureReader<Ended>);

/// A connection. The handler's socket and the server share it.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) peer: String,
    pub(crate) local: String,
    pub(crate) socket: TcpSocket,
    /// The handler is done with it.
    pub(crate) is_over: Event,
    /// What `receive` gives the handler.
    offered: RefCell<Option<Input>>,
    /// What `carry` takes.
    carried: RefCell<Option<Carried>>,
    /// Whether the handler has called `send`. Then the end of its stream is FIN.
    pub(crate) has_sent: Cell<bool>,
}

/// The input, on its way from the system to the handler.
struct Carried {
    input: StreamReader<u8>,
    ended: FutureReader<Ended>,
    to_handler: StreamWriter<u8>,
    ended_to_handler: FutureWriter<Ended>,
}

impl Connection {
    pub(crate) fn new(id: u64, socket: TcpSocket, peer: String, local: String) -> Rc<Self> {
        let (input, ended) = socket.receive();
        let (to_handler, offered) = crate::wit_stream::new();
        let (ended_to_handler, offered_end) =
            crate::wit_future::new(|| Err(ErrorCode::ConnectionAborted));
        Rc::new(Self {
            id,
            peer,
            local,
            socket,
            is_over: Event::default(),
            offered: RefCell::new(Some((offered, offered_end))),
            carried: RefCell::new(Some(Carried {
                input,
                ended,
                to_handler,
                ended_to_handler,
            })),
            has_sent: Cell::new(false),
        })
    }

    /// What `receive` returns. The second time it is what the system returns then.
    pub(crate) fn receive(&self) -> Input {
        let offered = self.offered.take();
        offered.unwrap_or_else(|| self.socket.receive())
    }

    /// Carries the input until the handler is done, and then ends the connection.
    pub(crate) async fn carry(&self, linger: u64) {
        let Some(carried) = self.carried.take() else {
            return;
        };
        let mut input = self.pump(carried).await;
        self.is_over.wait().await;
        drop(self.offered.take());
        if !self.has_sent.get() {
            // Nothing, and then FIN.
            let (output, data) = crate::wit_stream::new();
            drop(self.socket.send(data));
            drop(output);
        }
        if let Some(input) = &mut input {
            let is_too_late = Event::default();
            let mut timer = core::pin::pin!(async {
                wait_for(linger).await;
                is_too_late.happen();
            });
            let mut rest = core::pin::pin!(unless(&is_too_late, discard(input)));
            core::future::poll_fn(|context| {
                let _ = timer.as_mut().poll(context);
                rest.as_mut().poll(context)
            })
            .await;
        }
    }

    /// Carries the input until it has ended, or the handler takes no more of it. Returns
    /// the rest of the input, if there may be one.
    async fn pump(&self, carried: Carried) -> Option<StreamReader<u8>> {
        let Carried {
            mut input,
            ended,
            mut to_handler,
            ended_to_handler,
        } = carried;
        let mut room = LEAST;
        let mut buffer = Vec::with_capacity(room);
        loop {
            let read = unless(&self.is_over, input.read(buffer)).await;
            let Some((result, bytes)) = read else {
                return Some(input);
            };
            let count = bytes.len();
            if count > 0 {
                let rest = unless(&self.is_over, to_handler.write_all(bytes)).await;
                match rest {
                    Some(rest) if rest.is_empty() => buffer = rest,
                    // The handler takes no more.
                    _ => return Some(input),
                }
            } else {
                buffer = bytes;
            }
            if result == StreamResult::Dropped {
                break;
            }
            room = match count {
                _ if count == room => (room * 4).min(MOST),
                _ if count < room / 8 => LEAST,
                _ => room,
            };
            if buffer.capacity() != room {
                buffer = Vec::with_capacity(room);
            }
            buffer.clear();
        }
        drop(to_handler);
        if let Some(ended) = unless(&self.is_over, ended.into_future()).await {
            // The handler may not want to know.
            let _ = unless(&self.is_over, ended_to_handler.write(ended)).await;
        }
        None
    }
}

/// Reads to the end. If there was unread input, the system would send RST, which can
/// destroy the answer on its way.
async fn discard(input: &mut StreamReader<u8>) {
    let mut buffer = Vec::with_capacity(DISCARDED);
    loop {
        let (result, mut bytes) = input.read(buffer).await;
        if result == StreamResult::Dropped {
            return;
        }
        bytes.clear();
        buffer = bytes;
    }
}
