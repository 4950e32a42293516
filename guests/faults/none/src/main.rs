//! A component that exports `wasi:cli/run` and none of the contracts. A host must refuse
//! to serve it.

fn main() {
    println!("hello");
}
