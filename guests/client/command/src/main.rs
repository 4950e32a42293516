//! The clients of the texts as a program. The first argument says which one, the next
//! ones where the server is.
//!
//! It uses nothing but the standard library, so it runs wherever `wasi:cli` and
//! `wasi:sockets` are, and natively.

use std::env;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{
    Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket,
};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

const USAGE: &str = "client stream|datagram|connected|slow|two|end|serve|resolve|typed ...; \
                     guests/README.md says what each does";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What was done, and how that has failed.
fn of<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {:?}", error.kind()))
}

fn run(words: &[&str]) -> Result<(), String> {
    match *words {
        // K1.
        ["stream", place] => exchange(&mut connect(place)?, "Hello World\n"),
        ["stream", place, text] => exchange(&mut connect(place)?, text),
        // K2.
        ["datagram", place] => datagram(place, false),
        ["connected", place] => datagram(place, true),
        // K3.
        ["slow", place] => slow(place, 5000),
        ["slow", place, milliseconds] => slow(place, number(milliseconds)?),
        // K4.
        ["two", place] => {
            let mut stream = connect(place)?;
            exchange(&mut stream, "first\n")?;
            sleep(Duration::from_secs(1));
            exchange(&mut stream, "second\n")
        }
        // Sends, says that this is all, and prints everything that comes.
        ["end", place, text] => {
            let mut stream = connect(place)?;
            of("send", stream.write_all(text.as_bytes()))?;
            of("shutdown", stream.shutdown(Shutdown::Write))?;
            let mut all = Vec::new();
            of("receive", stream.read_to_end(&mut all))?;
            of("print", io::stdout().write_all(&all))
        }
        // Echoes to so many peers, one after the other.
        ["serve", place, count] => serve(place, number(count)?),
        // The addresses of a name, one a line.
        ["resolve", name] => {
            for address in of("resolve", (name, 0).to_socket_addrs())? {
                println!("{}", address.ip());
            }
            Ok(())
        }
        // R4.
        ["typed"] => {
            for line in io::stdin().lock().lines() {
                println!("typed: {}", of("read", line)?);
            }
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn connect(place: &str) -> Result<TcpStream, String> {
    of("connect", TcpStream::connect(place))
}

/// Sends a text, and prints what comes first.
fn exchange(stream: &mut TcpStream, text: &str) -> Result<(), String> {
    of("send", stream.write_all(text.as_bytes()))?;
    print(stream)
}

fn print(stream: &mut TcpStream) -> Result<(), String> {
    let mut room = [0; 1024];
    let count = of("receive", stream.read(&mut room))?;
    let answer = room.get(..count).unwrap_or_default();
    of("print", io::stdout().write_all(answer))?;
    of("print", io::stdout().flush())
}

fn slow(place: &str, milliseconds: u64) -> Result<(), String> {
    let mut stream = connect(place)?;
    sleep(Duration::from_millis(milliseconds));
    of("send", stream.write_all(b"Hello"))?;
    print!("The time is ");
    print(&mut stream)
}

fn datagram(place: &str, is_connected: bool) -> Result<(), String> {
    let mut places = of("resolve", place.to_socket_addrs())?;
    let place = places.next().ok_or("no address")?;
    let own = match place {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = of("bind", UdpSocket::bind(own))?;
    let mut room = [0; 1024];
    let count = if is_connected {
        of("connect", socket.connect(place))?;
        of("send", socket.send(b"Hello World"))?;
        of("receive", socket.recv(&mut room))?
    } else {
        of("send", socket.send_to(b"Hello World", place))?;
        let (count, from) = of("receive", socket.recv_from(&mut room))?;
        if from != place {
            return Err(format!("an answer of {from}"));
        }
        count
    };
    let answer = room.get(..count).unwrap_or_default();
    println!("{}", String::from_utf8_lossy(answer));
    Ok(())
}

fn serve(place: &str, count: u64) -> Result<(), String> {
    let listener = of("bind", TcpListener::bind(place))?;
    println!("listening {}", of("address", listener.local_addr())?);
    for _ in 0..count {
        let (mut stream, _) = of("accept", listener.accept())?;
        let mut room = [0; 1024];
        loop {
            match of("receive", stream.read(&mut room))? {
                0 => break,
                count => {
                    let bytes = room.get(..count).unwrap_or_default();
                    of("send", stream.write_all(bytes))?;
                }
            }
        }
    }
    Ok(())
}
