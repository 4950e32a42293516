//! R1 and R2: a server that logs what any of its clients sends, and that one has gone.

use crate::harness::{Client, Guest, Serve, Server};

#[track_caller]
fn start(guest: Guest, dispatch: &str) -> Server {
    Serve::guest(guest, dispatch)
        .compiled_once()
        .env("SERVICE=log")
        .start()
}

#[track_caller]
fn wait_for_line(server: &Server, line: &str) {
    server.wait_for_log(line, |event| event.is_guest() && event.message() == line);
}

for_each_pair! { small, small_commands: what_is_sent_is_logged_with_who_has_sent_it }
fn what_is_sent_is_logged_with_who_has_sent_it(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch);
    for _ in 0..2 {
        let mut client = server.connect();
        let peer = client.local();
        client.send("one\r\n");
        wait_for_line(&server, &format!("{peer} wrote: one"));
        // A line that would look like another's.
        client.send("two\n127.0.0.1:1 disconnected\nhalf");
        wait_for_line(&server, &format!("{peer} wrote: two"));
        wait_for_line(&server, &format!("{peer} wrote: 127.0.0.1:1 disconnected"));
        wait_for_line(&server, &format!("{peer} wrote: half"));
        assert!(client.is_silent());
        client.finish_sending();
        client.expect_eof();
        wait_for_line(&server, &format!("{peer} disconnected"));
    }
    let finished = server.stop();
    finished.check_no_alarm();
    assert_eq!(finished.guest_lines().len(), 10);
}

for_each_pair! { small without sequential, small_commands without sequential: any_client_may_send_at_any_time }
fn any_client_may_send_at_any_time(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch);
    let silent = server.connect();
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for round in 0..3 {
        for client in clients.iter_mut().rev() {
            client.send(format!("{round}\n"));
            wait_for_line(&server, &format!("{} wrote: {round}", client.local()));
        }
    }
    for client in clients {
        let peer = client.local();
        drop(client);
        wait_for_line(&server, &format!("{peer} disconnected"));
    }
    drop(silent);
    server.stop().check_no_alarm();
}
