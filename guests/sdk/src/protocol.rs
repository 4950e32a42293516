//! A component from a protocol without I/O.

/// Makes a component that serves a [`Protocol`](crate::session::Protocol), and hands its
/// connections over. The first word is the contract: `blocking`, `evented` or `concurrent`.
/// Then come the type, and a function that makes it, with its options set:
///
/// ```text
/// sockserve_handler::protocol!(blocking, Upper, || Ok(Upper));
/// ```
///
/// [`asynchat`](crate::asynchat) has a whole example.
///
/// The error of the function is one line that says which option is wrong. It runs when an
/// instance is made, so that the host knows a wrong option before it serves
/// ([`check_at_start!`](crate::check_at_start!)), and then once per connection, or, under
/// `evented`, once more per instance.
#[macro_export]
macro_rules! protocol {
    (blocking, $protocol:ty, $make:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::p2::blocking::Handler for Component {
                fn handle(
                    socket: $crate::wasi::sockets::tcp::TcpSocket,
                    input: $crate::wasi::io::streams::InputStream,
                    output: $crate::wasi::io::streams::OutputStream,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::p2::blocking::serve(&<Self as $crate::HasProtocol>::protocol()?, &socket, &input, &output)
                }
            }
            $crate::p2::blocking::export!(Component with_types_in $crate::p2::blocking);
            $crate::protocol!(@ Component, $protocol, $make);
        };
    };
    (concurrent, $protocol:ty, $make:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::p3::concurrent::Handler for Component {
                async fn handle(
                    socket: $crate::wasip3::sockets::types::TcpSocket,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::p3::concurrent::serve(&<Self as $crate::HasProtocol>::protocol()?, &socket).await
                }
            }
            $crate::p3::concurrent::export!(Component with_types_in $crate::p3::concurrent);
            $crate::protocol!(@ Component, $protocol, $make);
        };
    };
    (evented, $protocol:ty, $make:expr $(,)?) => {
        const _: () = {
            struct Component;
            ::std::thread_local! {
                static SERVER: ::std::cell::RefCell<$crate::p2::evented::Server<$protocol>> = {
                    let made: ::core::result::Result<$protocol, ::std::string::String> = ($make)();
                    let protocol = made.unwrap_or_else(|error| $crate::trap(&error));
                    ::std::cell::RefCell::new($crate::p2::evented::Server::new(protocol))
                };
            }
            impl $crate::p2::evented::Handler for Component {
                fn turn(
                    events: ::std::vec::Vec<$crate::p2::evented::Event>,
                ) -> ::std::vec::Vec<$crate::p2::evented::Change> {
                    SERVER.with_borrow_mut(|server| server.turn(events))
                }
            }
            impl $crate::hand_over::HandOver for Component {
                fn hand_over(
                    connection: $crate::ConnectionId,
                ) -> ::core::option::Option<$crate::hand_over::WitState> {
                    SERVER
                        .with_borrow_mut(|server| server.hand_over(connection))
                        .map(::core::convert::Into::into)
                }
                fn accept(
                    connection: $crate::ConnectionId,
                    state: $crate::hand_over::WitState,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    SERVER.with_borrow(|server| server.accept(connection, state.into()))
                }
            }
            $crate::check_at_start!(|| -> ::core::result::Result<$protocol, ::std::string::String> {
                ($make)()
            });
            $crate::p2::evented::export!(Component with_types_in $crate::p2::evented);
            $crate::hand_over::export!(Component with_types_in $crate::hand_over);
        };
    };
    (@ $component:ident, $protocol:ty, $make:expr) => {
        impl $crate::HasProtocol for $component {
            type Protocol = $protocol;

            fn protocol() -> ::core::result::Result<$protocol, ::std::string::String> {
                ($make)()
            }
        }
        $crate::check_at_start!(<$component as $crate::HasProtocol>::protocol);
        $crate::hand_over::export!($component with_types_in $crate::hand_over);
    };
}
