//! The chat room under the contract `concurrent`: a call for each member, all of
//! them in one instance, which holds the room.
//!
//! A call reads what its member says and, at the same time, writes to it what the
//! others have said. Whoever puts something into the room wakes the calls of
//! those it is for. Nobody puts anything into a room that is rather full, until
//! what is in it has been written or it has been waited for long enough.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use chat_protocol::{HoldId, MemberId, PATIENCE_NANOSECONDS, READ_LIMIT, Room};
use futures_util::future::select;
use shell_p3::{Handler, Streams, peer};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

struct Component;

shell_p3::export!(Component);

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        let limits = (shell::option("QUEUE_LIMIT")?, shell::option("ROOM_LIMIT")?);
        let address = peer(&socket)?;
        let member = Membership::new(|| Room::new(limits.0, limits.1));
        // That somebody joins is broadcast as well.
        member.hold_back().await;
        with_room(|room| room.join(member.id, address));
        let mut streams = Streams::new(&socket);
        // Whichever ends first takes the others with it: a write to a member who
        // does not read is given up as soon as the room has dropped the member.
        select(
            pin!(write(&member, &mut streams.output)),
            select(
                pin!(read(&member, &mut streams.input)),
                pin!(poll_fn(|context| member.poll_dropped(context))),
            ),
        )
        .await;
        Ok(())
    }
}

/// What one write to a member takes at most.
const WRITE_LIMIT: usize = 16 * 1024;

/// Writes to the member what waits for it, until it has gone.
async fn write(member: &Membership, output: &mut StreamWriter<u8>) {
    loop {
        let piece = poll_fn(|context| member.poll_pending(context)).await;
        let length = piece.len();
        if !output.write_all(piece).await.is_empty() {
            return;
        }
        // Until now it has counted for the queue's limit.
        with_room(|room| room.sent(member.id, length));
    }
}

/// Puts into the room what the member says, until it has gone. End of file and a
/// reset are all the same to a chat.
async fn read(member: &Membership, input: &mut StreamReader<u8>) {
    let mut buffer = Vec::with_capacity(READ_LIMIT);
    loop {
        let (result, mut chunk) = input.read(buffer).await;
        if result == StreamResult::Dropped {
            return;
        }
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            member.hold_back().await;
            let taken = with_room(|room| room.receive(member.id, rest));
            rest = rest.get(taken..).unwrap_or_default();
        }
        // The next chunk may be there already. The others write this one first,
        // or a member who sends much would have them all dropped.
        wit_bindgen::yield_async().await;
        chunk.clear();
        buffer = chunk;
    }
}

/// A place in the room, kept for a member before it joins, and given up when it is
/// dropped.
struct Membership {
    id: MemberId,
}

impl Membership {
    /// The first of them all makes the room.
    fn new(room: impl FnOnce() -> Room) -> Membership {
        let id = SERVER.with_borrow_mut(|server| {
            let server = server.get_or_insert_with(|| Server::new(room()));
            server.last_member += 1;
            server.last_member
        });
        Membership { id }
    }

    /// Waits for the end of a hold, and of the next if there is one by then.
    async fn hold_back(&self) {
        while let Some(hold) = with_room(|room| room.hold()) {
            let released = poll_fn(|context| self.poll_released(context, hold));
            if with_server(|server| *server.timekeeper.get_or_insert(self.id) == self.id) {
                select(pin!(released), pin!(wait_for(PATIENCE_NANOSECONDS))).await;
                with_room(|room| room.end_hold(hold));
                with_server(|server| server.timekeeper = None);
            } else {
                released.await;
            }
        }
    }

    /// What waits for the member, once something does.
    fn poll_pending(&self, context: &mut Context<'_>) -> Poll<Vec<u8>> {
        self.wake_on_change(context);
        let piece = with_room(|room| room.pending(self.id, WRITE_LIMIT));
        if piece.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(piece)
    }

    /// Ready when the room has dropped the member.
    fn poll_dropped(&self, context: &mut Context<'_>) -> Poll<()> {
        self.wake_on_change(context);
        if with_room(|room| room.is_member(self.id)) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Ready when `hold` is over, or when the member is to time it.
    fn poll_released(&self, context: &mut Context<'_>, hold: HoldId) -> Poll<()> {
        self.wake_on_change(context);
        let timed = with_server(|server| server.timekeeper.is_some());
        if timed && with_room(|room| room.hold()) == Some(hold) {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn wake_on_change(&self, context: &mut Context<'_>) {
        with_server(|server| {
            // One waker is enough: all that a call waits for is one task.
            server
                .wakers
                .entry(self.id)
                .or_insert_with(|| context.waker().clone());
        });
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        with_room(|room| room.leave(self.id));
        let wakers = with_server(|server| {
            server.wakers.remove(&self.id);
            if server.timekeeper != Some(self.id) {
                return Vec::new();
            }
            // Another is to do it.
            server.timekeeper = None;
            server.take_wakers()
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}

thread_local! {
    /// Empty until the first member, whose call can say that an option is bad.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

struct Server {
    room: Room,
    last_member: MemberId,
    /// The calls that wait for something to happen to their member.
    wakers: BTreeMap<MemberId, Waker>,
    /// Who sees to it that a hold comes to an end. A timer for each of those who
    /// wait would be a thousand at a time.
    timekeeper: Option<MemberId>,
}

impl Server {
    fn new(room: Room) -> Server {
        Server {
            room,
            last_member: 0,
            wakers: BTreeMap::new(),
            timekeeper: None,
        }
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers).into_values().collect()
    }
}

fn with_server<R: Default>(act: impl FnOnce(&mut Server) -> R) -> R {
    SERVER.with_borrow_mut(|server| server.as_mut().map(act).unwrap_or_default())
}

/// Does something in the room, prints what was broadcast by that, and wakes those
/// whom it concerns: everybody if it has ended a hold.
fn with_room<R: Default>(act: impl FnOnce(&mut Room) -> R) -> R {
    let (result, mut log, wakers) = with_server(|server| {
        let hold = server.room.hold();
        let result = act(&mut server.room);
        let mut concerned = server.room.take_waiting();
        concerned.extend(server.room.take_dropped());
        let wakers: Vec<Waker> = if hold.is_some() && server.room.hold() != hold {
            server.take_wakers()
        } else {
            concerned
                .iter()
                .filter_map(|id| server.wakers.remove(id))
                .collect()
        };
        (result, server.room.take_log(), wakers)
    });
    shell::print_log(&mut log);
    wakers.into_iter().for_each(Waker::wake);
    result
}
