//! Between nodes: frames, messages, the connection to a peer, the server for peers. All of it over mutual TLS.

pub(crate) mod frame;
pub(crate) mod identity;
pub(crate) mod message;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
