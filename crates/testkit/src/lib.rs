#![forbid(unsafe_code)]
//! What Hawser's tests stand on: stock Kafka as a child process, batches made by hand, certificates,
//! comparison of logs on disk, and faults. A dev-dependency only; nothing that ships uses it.
//!
//! Everything here blocks its thread and owns what it started: dropping a value ends its processes, and a test
//! process that dies in any other way takes them along (see [`process`]).

pub mod batches;
pub mod certificates;
pub mod compare;
pub mod daemon;
pub mod fake_source;
pub mod faults;
pub mod fuzz;
pub mod kafka;
pub mod link_peers;
pub mod netns;
pub mod ports;
pub mod process;
pub mod zoo;

pub use kafka::Kafka;
