//! What the tests of all languages share: from `sockserve new` to a server.
