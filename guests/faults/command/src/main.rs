//! Misbehaves as a program, in the way that its arguments say.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::process::exit;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or_default();
    match *words.as_slice() {
        // Ends with a status, without a look at the input.
        ["exit", status] => exit(number(status)),
        // Says something and ends with a status.
        ["say", text, status] => {
            print!("{text}");
            flush();
            exit(number(status));
        }
        ["trap"] => std::process::abort(),
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["grow"] => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        // Waits and reads nothing.
        ["sleep", milliseconds] => {
            std::thread::sleep(Duration::from_millis(
                u64::try_from(number(milliseconds)).unwrap_or(0),
            ));
            print!("slept");
            flush();
        }
        // Prints what it was told.
        ["environment"] => {
            for (name, value) in env::vars() {
                println!("{name}={value}");
            }
        }
        // Prints a file.
        ["read", path] => match std::fs::read(path) {
            Ok(bytes) => drop(io::stdout().write_all(&bytes)),
            Err(error) => eprintln!("read: {:?}", error.kind()),
        },
        // Writes until that fails, and says how.
        ["flood"] => {
            let mut output = io::stdout().lock();
            let error = loop {
                if let Err(error) = output.write_all(&[b'x'; 10_000]) {
                    break error;
                }
            };
            eprintln!("flood: {:?}", error.kind());
        }
        // Reads to the end, waits, and says how much it was.
        ["count"] => {
            let mut all = Vec::new();
            match io::stdin().lock().read_to_end(&mut all) {
                Ok(count) => println!("{count} bytes"),
                Err(error) => eprintln!("count: {:?}", error.kind()),
            }
        }
        // Prints its arguments, one a line.
        _ => {
            for argument in &arguments {
                println!("{argument}");
            }
        }
    }
}

fn flush() {
    let _ = io::stdout().flush();
}
