//! The broker behind real sockets, driven by Hawser's own client and by raw bytes.

mod apis;
mod common;
mod consuming;
mod denied;
mod fetching;
mod grouping;
mod rights;
mod topics;
