//! `sockserve new`: a project of a handler.

pub(super) mod files;
