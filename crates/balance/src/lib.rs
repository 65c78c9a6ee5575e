//! Which server is next, and which servers may be asked at all: pure decisions, shared by `edge` and `sql`.
//!
//! Nothing here does I/O, reads a clock or draws a random number; who calls brings the facts. [`RoundRobin`] picks,
//! [`health`] says who may be picked.

pub mod health;
mod round_robin;

pub use round_robin::RoundRobin;
