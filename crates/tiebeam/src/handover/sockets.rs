//! The listening sockets of a node, by the room that accepts on them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use serde::{Deserialize, Serialize};

/// Who accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Room {
    Edge,
    Router,
    Console,
}

/// Those of a process before this one; empty at a usual start.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<Room, Vec<TcpListener>>);

impl Sockets {
    pub fn add(&mut self, room: Room, socket: TcpListener) {
        self.0.entry(room).or_default().push(socket);
    }

    pub fn take(&mut self, room: Room) -> Vec<TcpListener> {
        self.0.remove(&room).unwrap_or_default()
    }

    /// Whether the room will find its port held for it.
    pub fn has(&self, room: Room, at: SocketAddr) -> bool {
        let listens = |socket: &TcpListener| socket.local_addr().is_ok_and(|own| own == at);
        self.0.get(&room).is_some_and(|sockets| sockets.iter().any(listens))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Room, &TcpListener)> {
        self.0.iter().flat_map(|(room, sockets)| sockets.iter().map(|socket| (*room, socket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_for_its_room_alone() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let mut sockets = Sockets::default();
        sockets.add(Room::Router, socket);
        assert!(sockets.has(Room::Router, at) && !sockets.has(Room::Edge, at));
        assert_eq!((sockets.iter().count(), sockets.take(Room::Edge).len()), (1, 0));
        assert_eq!((sockets.take(Room::Router).len(), sockets.iter().count()), (1, 0));
    }
}
