//! A component that exports none of the contracts but `wasi:cli/run`, which a
//! host must refuse to serve.

fn main() {
    println!("hello");
}
