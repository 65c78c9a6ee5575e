//! The HTTP load balancer of a node: client connections in, the servers of a pool in turn, out.
//!
//! It serves what the last published [`Config`] says and needs nobody else to go on: without a quorum, without the
//! control side, it keeps serving what it last knew. It never passes a message through as bytes: each is parsed,
//! checked and written anew by the sans-I/O [`codec`]. The `tiebeam` room starts it and publishes to it.

mod access_log;
mod addresses;
mod answer;
mod attempt;
mod buffer;
mod choice;
mod client;
mod client_auth;
mod clock;
pub mod codec;
mod config;
mod connection;
#[cfg(test)]
#[path = "../tests/corpus/mod.rs"]
mod corpus;
mod counters;
mod descriptors;
mod doors;
mod edge;
mod error;
mod exchange;
mod fields;
mod files;
mod forward;
mod gather;
mod h2;
mod health;
mod hedge;
mod listen;
mod log_file;
mod pace;
mod pages;
#[cfg(test)]
mod properties;
mod proxy_protocol;
mod queue;
mod reach;
mod registry;
mod routing;
mod rules;
mod servers;
mod snapshot;
mod stats;
mod sticky;
mod tally;
mod tickets;
mod tls;
mod tunnel;
mod upstream;
mod welcome;
mod wire;
mod worker;

pub use client_auth::{ClientAuth, ClientAuthError};
pub use config::{
    Addresses, Config, Listeners, LogFile, LogSink, Pages, PoolConfig, Secret, ServerConfig, ServerId,
    SiteConfig,
};
pub use counters::reasons;
pub use edge::Edge;
pub use error::StartError;
pub use listen::hold;
pub use pages::{PAGE_MAX_BYTES, Page, PageError};
pub use reach::{Reach, ServerTls};
pub use stats::*;
pub use tickets::{TicketKey, TicketKeys};
pub use tiebeam_balance::health::State;
