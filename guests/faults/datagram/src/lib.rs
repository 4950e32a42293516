//! Misbehaves under the contract `datagram`: each datagram is a command.

use faults_shared::datagrams::{Command, grow};
use faults_shared::{Keeping, spin, trap};
use sockserve_handler::instance_state::{InstanceState, State};
use sockserve_handler::p2::datagram::{Address, Datagram, Handler, shown};
use sockserve_handler::p2::ip_address;
use std::cell::RefCell;

struct Component;

sockserve_handler::p2::datagram::export!(Component);
sockserve_handler::instance_state::export!(Component);

/// What the instance remembers.
#[derive(Default)]
struct Memory {
    /// How many datagrams it has had.
    count: u64,
    /// What it sends with the next answers.
    later: Vec<Datagram>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        u32::MAX
    }

    fn receive(batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        let mut answers = MEMORY.with_borrow_mut(|memory| std::mem::take(&mut memory.later));
        for datagram in batch {
            let count = MEMORY.with_borrow_mut(|memory| {
                memory.count += 1;
                memory.count
            });
            serve(datagram, count, &mut answers)?;
        }
        Ok(answers)
    }
}

/// It knows how many datagrams it has had.
impl InstanceState for Component {
    fn save() -> Option<State> {
        let count = MEMORY.with_borrow(|memory| memory.count.to_le_bytes());
        let keeping: Keeping = sockserve_handler::option_or_trap("STATE");
        keeping.save(&count).map(State::from)
    }

    fn restore(state: State) -> Result<(), String> {
        let keeping: Keeping = sockserve_handler::option_or_trap("STATE");
        let count = keeping.restore(state.into())?;
        let count = count.try_into().map_err(|_| "expected eight bytes")?;
        MEMORY.with_borrow_mut(|memory| memory.count = u64::from_le_bytes(count));
        Ok(())
    }
}

/// Does what a datagram asks for, and adds its answers.
fn serve(datagram: Datagram, count: u64, answers: &mut Vec<Datagram>) -> Result<(), String> {
    let Datagram { peer, local, data } = datagram;
    let to = |peer: &Address, local: &Address, data| Datagram {
        peer: peer.clone(),
        local: local.clone(),
        data,
    };
    match Command::from(data) {
        Command::Trap => trap(),
        Command::Spin => spin(),
        Command::Grow => grow(),
        Command::Fail(text) => return Err(text),
        Command::Sleep(time) => {
            std::thread::sleep(time);
            answers.push(to(&peer, &local, b"slept".to_vec()));
        }
        Command::Answer(all) => answers.extend(all.into_iter().map(|it| to(&peer, &local, it))),
        Command::To(place, text) => {
            answers.push(to(&Address::Ip(ip_address(place)), &local, text));
        }
        Command::From(place, text) => {
            answers.push(to(&peer, &Address::Ip(ip_address(place)), text));
        }
        Command::Later(text) => {
            let later = to(&peer, &local, text);
            MEMORY.with_borrow_mut(|memory| memory.later.push(later));
        }
        Command::Count => answers.push(to(&peer, &local, count.to_string().into_bytes())),
        Command::Who => {
            let text = format!("{} {}", shown(&peer), shown(&local));
            println!("it was {}", shown(&peer));
            answers.push(to(&peer, &local, text.into_bytes()));
        }
    }
    Ok(())
}
