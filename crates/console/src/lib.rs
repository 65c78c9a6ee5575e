//! The pages and the read-only HTTP API of one node: what is known of the cluster, for people and for scrapers.
//!
//! It never changes anything and reaches nothing but the [`Board`], which the wiring fills. All that a page needs is
//! in the binary: no other server is ever asked.

mod board;
mod page;
mod routes;
mod scene;
mod server;
mod svg;

pub use board::Board;
pub use server::{CONNECTIONS_MAX, Console, HEADER_TIME, StartError};
