//! Readiness: one wait over several sockets.

use crate::print;
use crate::stream::Stream;
use crate::wait::Deadline;
use std::net::SocketAddr;

/// R3: prints whatever comes from either server, until both have ended or nothing has come
/// for so long.
pub(crate) fn either(places: [SocketAddr; 2], milliseconds: u64) -> Result<(), String> {
    let mut open = Vec::new();
    for place in places {
        open.push(Stream::connect(place, None)?);
    }
    while !open.is_empty() {
        let ready = wait(&open, &Deadline::after(Some(milliseconds)));
        if ready.is_empty() {
            match milliseconds {
                5000 => println!("Five seconds elapsed."),
                other => println!("{other} milliseconds elapsed."),
            }
            return Ok(());
        }
        // From the last one on, so that the indices before stay what they are.
        for index in ready.into_iter().rev() {
            let Some(stream) = open.get(index) else {
                continue;
            };
            match stream.read()? {
                Some(bytes) => print(&bytes)?,
                None => drop(open.remove(index)),
            }
        }
    }
    Ok(())
}

/// Opens so many connections to a server that echoes, and waits for all answers at once.
pub(crate) fn several(to: SocketAddr, count: u64) -> Result<(), String> {
    let mut open = Vec::new();
    for number in 0..count {
        let stream = Stream::connect(to, None)?;
        stream.send(&format!("{number}\n"))?;
        open.push(stream);
    }
    let mut answers = vec![Vec::new(); open.len()];
    let expected = |number: usize| format!("{number}\n").into_bytes();
    let is_missing = |answers: &[Vec<u8>]| {
        (0..)
            .zip(answers)
            .any(|(at, answer)| *answer != expected(at))
    };
    while is_missing(&answers) {
        for index in wait(&open, &Deadline::after(None)) {
            let (Some(stream), Some(answer)) = (open.get(index), answers.get_mut(index)) else {
                continue;
            };
            let bytes = stream.read()?;
            answer.extend(bytes.ok_or("receive: closed")?);
            if answer.len() > expected(index).len() {
                return Err(format!("a wrong answer to {index}"));
            }
        }
    }
    println!("{count} answered");
    Ok(())
}

/// The indices of the streams that can be read.
fn wait(streams: &[Stream], deadline: &Deadline) -> Vec<usize> {
    let inputs: Vec<_> = streams.iter().map(|it| it.input.subscribe()).collect();
    deadline.wait(&inputs.iter().collect::<Vec<_>>())
}
