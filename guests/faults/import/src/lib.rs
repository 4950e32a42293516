//! A handler that imports an interface that no host has. A host must refuse to serve it.

use sockserve_handler::p2::blocking::Handler;
use wasi::io::streams::{InputStream, OutputStream};
use wasi::sockets::tcp::TcpSocket;

wit_bindgen::generate!({
    inline: "
        package acme:vault;

        interface secrets {
            reveal: func(name: string) -> string;
        }

        world thief {
            import secrets;
        }
    ",
});

struct Component;

sockserve_handler::p2::blocking::export!(Component);

impl Handler for Component {
    fn handle(_: TcpSocket, _: InputStream, output: OutputStream) -> Result<(), String> {
        let secret = acme::vault::secrets::reveal("password");
        sockserve_handler::p2::write_all(&output, secret.as_bytes())
            .map_err(|error| sockserve_handler::p2::describe("write", &error))
    }
}
