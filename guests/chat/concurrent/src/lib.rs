//! The chat room under the contract `concurrent`: a call for each member, all of
//! them in one instance, which holds the room.
//!
//! A call reads what its member says and, at the same time, writes to it what the
//! others have said. Whoever puts something into the room wakes the calls of
//! those it is for. Nobody puts anything into a room that is rather full, until
//! what is in it has been written or it has been waited for long enough.

use chat_protocol::{HoldId, MemberId, MemberState, PATIENCE_NANOSECONDS, READ_LIMIT, Room};
use futures_util::future::select;
use shell::End;
use shell::hand_over::{ConnectionId, HandOver, WitState};
use shell_p3::{Draining, Handler, Streams, Written, connection, peer};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

struct Component;

shell_p3::export!(Component);
shell::hand_over::export!(Component);

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        open_room()?;
        let mut member = Membership::new(connection(&socket));
        let draining = Draining::new(member.id);
        let mut unsaid = match with_server(|server| server.taken_on.remove(&member.id)) {
            Some(unsaid) => unsaid,
            None => {
                let address = peer(&socket)?;
                // That somebody joins is broadcast as well.
                member.hold_back(&draining).await;
                with_room(|room| room.join(member.id, address));
                Vec::new()
            }
        };
        let mut streams = Streams::new(&socket);
        let end = until_gone_or_told(
            &member,
            pin!(write(&member, &mut streams.output, &draining)),
            pin!(read(&member, &mut streams.input, &mut unsaid, &draining)),
        )
        .await;
        if end == End::Told {
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
        with_server(|server| server.taken_on.insert(connection, unsaid));
        with_room(|room| room.put(connection, member));
        Ok(())
    }
}

/// Writes and reads at once. When either has come to its end, or the room has dropped
/// the member, the other is given up as it is; but when they are told, each comes to
/// an end of its own, or something would be lost.
async fn until_gone_or_told(
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
            return Poll::Ready(End::Told);
        }
        member.poll_dropped(context).map(|()| End::Done)
    })
    .await
}

/// What one write to a member takes at most.
const WRITE_LIMIT: usize = 16 * 1024;

/// Writes to the member what waits for it, until it has gone.
async fn write(member: &Membership, output: &mut StreamWriter<u8>, draining: &Draining) -> End {
    loop {
        let pending = pin!(poll_fn(|context| member.poll_pending(context)));
        let Some(piece) = draining.unless_told(pending).await else {
            return End::Told;
        };
        let length = piece.len();
        let (written, rest) = shell_p3::write(output, piece, draining).await;
        // Until now it has counted for the queue's limit.
        with_room(|room| room.sent(member.id, length - rest.len()));
        if written == Written::Gone {
            return End::Done;
        }
        if draining.was_told() {
            return End::Told;
        }
    }
}

/// Puts into the room what the member says, until it has gone. End of file and a
/// reset are all the same to a chat. What was read and is `unsaid` comes first, and
/// is left when the connection is to be handed over.
async fn read(
    member: &Membership,
    input: &mut StreamReader<u8>,
    unsaid: &mut Vec<u8>,
    draining: &Draining,
) -> End {
    say(member, unsaid, draining).await;
    let mut buffer = Vec::with_capacity(READ_LIMIT);
    while !draining.was_told() {
        let result;
        (result, *unsaid) = shell_p3::read(input, buffer, draining).await;
        if result == StreamResult::Dropped {
            return End::Done;
        }
        say(member, unsaid, draining).await;
        if draining.was_told() {
            break;
        }
        // The next chunk may be there already. The others write this one first,
        // or a member who sends much would have them all dropped.
        wit_bindgen::yield_async().await;
        buffer = std::mem::take(unsaid);
    }
    End::Told
}

/// Puts into the room what was read, as holds permit it.
async fn say(member: &Membership, unsaid: &mut Vec<u8>, draining: &Draining) {
    while !unsaid.is_empty() {
        member.hold_back(draining).await;
        if with_room(|room| room.hold()).is_some() {
            // It was told while it waited.
            return;
        }
        let taken = with_room(|room| room.receive(member.id, unsaid));
        unsaid.drain(..taken);
    }
}

/// A place in the room, kept for a member before it joins, and left when it is
/// dropped. A member is named as its connection is.
struct Membership {
    id: MemberId,
    /// Whether the place is another room's, so nobody is told that it is left.
    given_up: bool,
}

impl Membership {
    fn new(id: MemberId) -> Self {
        Self {
            id,
            given_up: false,
        }
    }

    /// The member stays in the room until it is handed over, with what it has not
    /// said.
    fn give_up(&mut self, unsaid: Vec<u8>) {
        with_server(|server| server.given_up.insert(self.id, unsaid));
        self.given_up = true;
    }

    /// Waits for the end of a hold, and of the next if there is one by then, but not
    /// longer than until the connection is to be handed over.
    async fn hold_back(&self, draining: &Draining) {
        while let Some(hold) = with_room(|room| room.hold()) {
            let mut released = pin!(poll_fn(|context| self.poll_released(context, hold)));
            if with_server(|server| *server.timekeeper.get_or_insert(self.id) == self.id) {
                let patience = pin!(wait_for(PATIENCE_NANOSECONDS));
                let mut over = select(released, patience);
                if draining.unless_told(Pin::new(&mut over)).await.is_none() {
                    return self.keep_no_time();
                }
                with_room(|room| room.end_hold(hold));
                with_server(|server| server.timekeeper = None);
            } else if draining.unless_told(released.as_mut()).await.is_none() {
                return;
            }
        }
    }

    /// Another is to see to it that a hold comes to an end.
    fn keep_no_time(&self) {
        let wakers = with_server(|server| {
            if server.timekeeper != Some(self.id) {
                return Vec::new();
            }
            server.timekeeper = None;
            server.take_wakers()
        });
        wakers.into_iter().for_each(Waker::wake);
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
        if !self.given_up {
            with_room(|room| room.leave(self.id));
        }
        with_server(|server| server.wakers.remove(&self.id));
        self.keep_no_time();
    }
}

thread_local! {
    /// Empty until the first member, whose call can say that an option is bad.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// Makes the room if there is none yet.
fn open_room() -> Result<(), String> {
    let limits = (shell::option("QUEUE_LIMIT")?, shell::option("ROOM_LIMIT")?);
    SERVER.with_borrow_mut(|server| {
        server.get_or_insert_with(|| Server::new(Room::new(limits.0, limits.1)));
    });
    Ok(())
}

struct Server {
    room: Room,
    /// Those who came from another room and whose calls are still to come, with what
    /// they have not said.
    taken_on: BTreeMap<MemberId, Vec<u8>>,
    /// Those who are to go to another room and whose calls have returned, with what
    /// they have not said.
    given_up: BTreeMap<MemberId, Vec<u8>>,
    /// The calls that wait for something to happen to their member.
    wakers: BTreeMap<MemberId, Waker>,
    /// Who sees to it that a hold comes to an end. A timer for each of those who
    /// wait would be a thousand at a time.
    timekeeper: Option<MemberId>,
}

impl Server {
    fn new(room: Room) -> Self {
        Self {
            room,
            taken_on: BTreeMap::new(),
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
