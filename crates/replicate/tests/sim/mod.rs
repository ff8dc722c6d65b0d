//! A world in which link and replication are tried.
#![allow(unreachable_pub)] // one test crate

pub mod check;
pub mod rng;
pub mod source;
pub mod world;
