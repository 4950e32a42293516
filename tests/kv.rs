//! The key-value store: one map per instance, which a peer reads and writes by line.

use crate::harness::control::Controlled;
use crate::harness::{Guest, Serve};

for_each_pair! { kv: lines_set_get_delete_and_count }
fn lines_set_get_delete_and_count(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let mut client = server.connect();
    client.send("GET a\nSET a 1 2\r\nGET a\nCOUNT\nDEL a\nDEL a\nwhat\n");
    client.expect("(none)\r\nOK\r\n1 2\r\n1\r\n1\r\n0\r\n");
    client.expect("error: expected SET, GET, DEL or COUNT\r\n");
    client.send(format!("SET b {}\nCOUNT\n", "x".repeat(2000)));
    client.expect("error: a line may have 1024 bytes\r\n0\r\n");
    // A line at end of file needs no line ending.
    client.send("SET c 3");
    client.finish_sending();
    client.expect("OK\r\n");
    client.expect_eof();
    server.stop().check_no_alarm();
}

for_each_pair! { kv shared: peers_of_one_instance_have_the_same_values }
fn peers_of_one_instance_have_the_same_values(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let (mut one, mut other) = (server.connect(), server.connect());
    one.send("SET a 1\n");
    one.expect("OK\r\n");
    other.send("GET a\nDEL a\n");
    other.expect("1\r\n1\r\n");
    one.send("GET a\n");
    one.expect("(none)\r\n");
    drop((one, other));
    server.stop().check_no_alarm();
}

for_each_pair! { kv isolated: peers_of_different_instances_have_values_of_their_own }
fn peers_of_different_instances_have_values_of_their_own(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).compiled_once().start();
    let mut one = server.connect();
    one.send("SET a 1\n");
    one.expect("OK\r\n");
    one.finish_sending();
    one.expect_eof();
    let mut other = server.connect();
    other.send("GET a\n");
    other.expect("(none)\r\n");
    drop(other);
    server.stop().check_no_alarm();
}

for_each_pair! { kv: a_half_read_line_moves_with_its_connection }
fn a_half_read_line_moves_with_its_connection(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.send("SET a half");
    controlled.wait_for_bytes_in("SET a half".len());
    controlled.swap_at_once(controlled.scratch.build(guest, 1));
    controlled.wait_for_settled(1);
    client.send(" a line\nGET a\n");
    client.expect("OK\r\nhalf a line\r\n");
    client.finish_sending();
    client.expect_eof();
    controlled.server.stop().check_no_alarm();
}
