//! The broker behind real sockets, driven by Hawser's own client and by raw bytes.

mod admin;
mod apis;
mod common;
mod consuming;
mod denied;
mod fetching;
mod grouping;
mod producing;
mod rights;
mod topics;
