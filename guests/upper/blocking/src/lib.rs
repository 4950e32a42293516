//! The upper family under the contract `blocking`: one call per connection.

use upper_protocol::UpperProtocol;

sockserve_handler::protocol!(blocking, UpperProtocol, || Ok(UpperProtocol));
