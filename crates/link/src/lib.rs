#![forbid(unsafe_code)]
//! What a link is: its configuration, its two halves, its filters, the life cycle of its mirrors, and
//! the reversal protocol as pure machines. No sockets, no files, no clocks.

pub mod alter;
pub mod catalogue;
pub mod config;
pub mod filter;
pub mod mirror;
pub mod mode;
pub mod name;
pub mod promotion;
pub mod properties;
pub mod refusals;
pub mod reversal;
pub mod topic_configs;

pub use alter::{Alteration, Altered, alter};
pub use config::{LinkConfig, Parsed};
pub use filter::{FilterError, TopicFilters};
pub use mode::{ConnectionMode, Half, LinkMode, UnknownMode};
pub use name::{InvalidName, LinkName};
pub use properties::{ConfigError, ConfigErrors, Properties};
pub use refusals::RefusalLog;
