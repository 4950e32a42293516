//! The chat room under the contract `concurrent`: one call per member, all in one
//! instance, which has the room.
//!
//! A call reads what its member says and, at the same time, writes to the member what
//! the others have said. A call that puts a line into the room wakes the calls of the
//! members that the line is for. While there is a hold, no call puts anything into the
//! room.

use chat_protocol::{HoldId, MemberId, MemberState, PATIENCE_NANOSECONDS, READ_LIMIT, Room};
use futures_util::future::select;
use sockserve_handler::End;
use sockserve_handler::hand_over::{ConnectionId, HandOver, WitState};
use sockserve_handler::p3::concurrent::{Draining, Handler, Streams, Written, connection, peer};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::check_at_start!(room);

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        open_room()?;
        let mut member = Membership::new(connection(&socket));
        let draining = Draining::new(member.id);
        let mut unsaid = match with_server(|server| server.accepted.remove(&member.id)) {
            Some(unsaid) => unsaid,
            None => {
                let address = peer(&socket)?;
                // The news that a member joins is broadcast too.
                member.wait_while_held(&draining).await;
                with_room(|room| room.join(member.id, address));
                Vec::new()
            }
        };
        let mut streams = Streams::new(&socket);
        let end = write_and_read(
            &member,
            pin!(write(&member, &mut streams.output, &draining)),
            pin!(read(&member, &mut streams.input, &mut unsaid, &draining)),
        )
        .await;
        if end == End::HandOver {
            member.give_up(unsaid);
        }
        Ok(())
    }
}

impl HandOver for Component {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        let unsaid = with_server(|server| server.given_up.remove(&connection))?;
        let mut member = with_room(|room| room.take(connection))?;
        member.unsaid = unsaid;
        member.encode().map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        open_room()?;
        let mut member = MemberState::decode(&state.into())?;
        let unsaid = std::mem::take(&mut member.unsaid);
        with_server(|server| server.accepted.insert(connection, unsaid));
        with_room(|room| room.put(connection, member));
        Ok(())
    }
}

/// Writes and reads at the same time.
///
/// When one of them is done, or the room has dropped the member, the other is dropped as
/// it is. But when the connection is to be handed over, each of them has to end by
/// itself, so that no byte is lost.
async fn write_and_read(
    member: &Membership,
    mut write: Pin<&mut impl Future<Output = End>>,
    mut read: Pin<&mut impl Future<Output = End>>,
) -> End {
    let (mut writes, mut reads) = (true, true);
    poll_fn(|context| {
        if writes && let Poll::Ready(end) = write.as_mut().poll(context) {
            if end == End::Done {
                return Poll::Ready(end);
            }
            writes = false;
        }
        if reads && let Poll::Ready(end) = read.as_mut().poll(context) {
            if end == End::Done {
                return Poll::Ready(end);
            }
            reads = false;
        }
        if !writes && !reads {
            return Poll::Ready(End::HandOver);
        }
        member.poll_dropped(context).map(|()| End::Done)
    })
    .await
}

/// The most bytes of one write to a member.
const WRITE_LIMIT: usize = 16 * 1024;

/// Writes the member's queue to it, until it has gone.
async fn write(member: &Membership, output: &mut StreamWriter<u8>, draining: &Draining) -> End {
    loop {
        let pending = pin!(poll_fn(|context| member.poll_pending(context)));
        let Some(piece) = draining.unless_ready(pending).await else {
            return End::HandOver;
        };
        let length = piece.len();
        let (written, rest) =
            sockserve_handler::p3::concurrent::write(output, piece, draining).await;
        // Until now these bytes counted for the limits.
        with_room(|room| room.consume(member.id, length - rest.len()));
        if written == Written::Gone {
            return End::Done;
        }
        if draining.is_ready() {
            return End::HandOver;
        }
    }
}

/// Puts into the room what the member says, until it has gone. End of file and a reset
/// mean the same to a chat.
///
/// `unsaid` is what was read and is not in the room yet. It comes first. When the
/// connection is to be handed over, the rest of it stays there.
async fn read(
    member: &Membership,
    input: &mut StreamReader<u8>,
    unsaid: &mut Vec<u8>,
    draining: &Draining,
) -> End {
    say(member, unsaid, draining).await;
    let mut buffer = Vec::with_capacity(READ_LIMIT);
    while !draining.is_ready() {
        let result;
        (result, *unsaid) = sockserve_handler::p3::concurrent::read(input, buffer, draining).await;
        if result == StreamResult::Dropped {
            return End::Done;
        }
        say(member, unsaid, draining).await;
        if draining.is_ready() {
            break;
        }
        // The next chunk may be there already. First the other calls write this one;
        // otherwise a member that sends much would make the room drop all others.
        wit_bindgen::yield_async().await;
        buffer = std::mem::take(unsaid);
    }
    End::HandOver
}

/// Puts into the room what was read, as far as holds permit.
async fn say(member: &Membership, unsaid: &mut Vec<u8>, draining: &Draining) {
    while !unsaid.is_empty() {
        member.wait_while_held(draining).await;
        if with_room(|room| room.hold()).is_some() {
            // The connection is to be handed over.
            return;
        }
        let taken = with_room(|room| room.receive(member.id, unsaid));
        unsaid.drain(..taken);
    }
}

/// A member's place in the room. It exists before the member joins; dropping it removes
/// the member. The member's id is that of its connection.
struct Membership {
    id: MemberId,
    /// Whether the member moves to another room, so it is not removed here.
    given_up: bool,
}

impl Membership {
    fn new(id: MemberId) -> Self {
        Self {
            id,
            given_up: false,
        }
    }

    /// Keeps the member in the room until it is handed over, and what it said that is
    /// not in the room yet.
    fn give_up(&mut self, unsaid: Vec<u8>) {
        with_server(|server| server.given_up.insert(self.id, unsaid));
        self.given_up = true;
    }

    /// Waits until there is no hold, or the connection is to be handed over.
    async fn wait_while_held(&self, draining: &Draining) {
        while let Some(hold) = with_room(|room| room.hold()) {
            let mut released = pin!(poll_fn(|context| self.poll_released(context, hold)));
            if with_server(|server| *server.timekeeper.get_or_insert(self.id) == self.id) {
                let patience = pin!(wait_for(PATIENCE_NANOSECONDS));
                let mut over = select(released, patience);
                if draining.unless_ready(Pin::new(&mut over)).await.is_none() {
                    return self.stop_timing();
                }
                with_room(|room| room.end_hold(hold));
                with_server(|server| server.timekeeper = None);
            } else if draining.unless_ready(released.as_mut()).await.is_none() {
                return;
            }
        }
    }

    /// If this member is the timekeeper, leaves that to another.
    fn stop_timing(&self) {
        let wakers = with_server(|server| {
            if server.timekeeper != Some(self.id) {
                return Vec::new();
            }
            server.timekeeper = None;
            server.take_wakers()
        });
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready with the front of the member's queue when that is not empty.
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

    /// Ready when `hold` is over, or when there is no timekeeper.
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
            // One waker per member is enough, because a call is one task.
            server
                .wakers
                .entry(self.id)
                .or_insert_with(|| context.waker().clone());
        });
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.given_up {
            with_room(|room| room.leave(self.id));
        }
        with_server(|server| server.wakers.remove(&self.id));
        self.stop_timing();
    }
}

thread_local! {
    /// Empty until the first member comes: its call can return that an option is wrong.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// A room with its options set.
fn room() -> Result<Room, String> {
    Ok(Room::new(
        sockserve_handler::option("QUEUE_LIMIT")?,
        sockserve_handler::option("ROOM_LIMIT")?,
    ))
}

/// Makes the room if there is none yet.
fn open_room() -> Result<(), String> {
    let room = room()?;
    SERVER.with_borrow_mut(|server| {
        server.get_or_insert_with(|| Server::new(room));
    });
    Ok(())
}

struct Server {
    room: Room,
    /// Members that came from another room and have no call yet, with what they said that
    /// is not in the room yet.
    accepted: BTreeMap<MemberId, Vec<u8>>,
    /// Members that move to another room and whose calls have returned, with what they
    /// said that is not in the room yet.
    given_up: BTreeMap<MemberId, Vec<u8>>,
    /// The wakers of the calls that wait for a change of their member.
    wakers: BTreeMap<MemberId, Waker>,
    /// The member whose call ends a hold by time. One timer is enough, and each waiting
    /// call would otherwise have its own.
    timekeeper: Option<MemberId>,
}

impl Server {
    fn new(room: Room) -> Self {
        Self {
            room,
            accepted: BTreeMap::new(),
            given_up: BTreeMap::new(),
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

/// Does something in the room, and prints what was broadcast by it. Wakes the calls of
/// the members that it concerns; these are all members if a hold has ended.
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
    sockserve_handler::print_log(&mut log);
    wakers.into_iter().for_each(Waker::wake);
    result
}
