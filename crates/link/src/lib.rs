#![forbid(unsafe_code)]
//! What a link is: its configuration, its two halves, its filters, the life cycle of its mirrors, and
//! the reversal protocol as pure machines. No sockets, no files, no clocks.

pub mod properties;

pub use properties::{ConfigError, ConfigErrors, Properties};
