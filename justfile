# Every recipe is a plain command; nothing needs just.

# Serve the embedded components to real clients and check every byte.
demo *args:
    cargo run -- demo {{args}}

# All tests: the protocols, the host, and the binary over loopback.
test *args:
    cargo test {{args}}

# Projects in each language, with its own tools; see tests/languages/main.rs.
languages *args:
    cargo test --test languages {{args}}

# The bindings for C, from the contracts; with wit-bindgen-cli 0.63.0 and its feature `c`.
bindings:
    wit-bindgen c wit sdk/c/worlds.wit --world sockserve:c/blocking --out-dir sdk/c/bindings
    wit-bindgen c wit sdk/c/worlds.wit --world sockserve:c/evented --out-dir sdk/c/bindings
    wit-bindgen c wit sdk/c/worlds.wit --world sockserve:c/datagram --out-dir sdk/c/bindings

# Build the guests by themselves, as files in target/guests.
guests:
    guests/build-all

# Every embedded handler as a command of its own under the stock wasmtime, until Ctrl-C.
wasmtime *args:
    guests/runner/serve-all {{args}}

# Formatting, clippy and docs, with warnings denied.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cd guests && cargo fmt --all --check
    cd guests && cargo clippy --release --target wasm32-wasip2 --target-dir ../target/guests -- -D warnings
    cd guests/runner && cargo fmt --all --check
    cd guests/runner && cargo clippy --release --target wasm32-wasip2 --target-dir ../../target/guests -- -D warnings
    cd benches && cargo fmt --check && cargo clippy --all-targets --locked -- -D warnings
    cd benches/peers && cargo fmt --all --check && cargo clippy --release --locked --target wasm32-wasip2 -- -D warnings

# Speed beside native servers and others; docs/performance.md says what is measured.
bench *args:
    cargo run --release --locked --manifest-path benches/Cargo.toml -- {{args}}

# A million connections, most of them hostile, and swaps: nothing must grow.
soak *args:
    cargo bench --bench soak -- {{args}}

# What runs on every change.
ci:
    bash .ci/run
