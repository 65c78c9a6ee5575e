//! What the old and the new process of a handover say to each other: one JSON value a packet, over a pair of unix sockets
//! that only the two of them have. Sockets travel beside their packet (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::sockets::Room;

/// A longer packet is cut by its sender where it may be (the words of an error), and refused otherwise.
pub const PACKET_BYTES: usize = 32 << 10;

/// What the old process says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromOld {
    /// The first packet.
    Hello {
        version: String,
        pid: u32,
        /// The soft limit of file descriptors that the node was started with, for its apps.
        descriptors: Option<u64>,
        /// Where its ledger listens until the node is the new one's.
        ledger: Option<SocketAddr>,
        /// What this node cannot change by a handover, as JSON.
        settled: Value,
        /// So many packets with a socket each follow.
        sockets: usize,
    },
    Socket(Room),
    /// The node is the new one's: ledger, PostgreSQL, router, console, and the folder.
    Yours,
}

/// What the new one says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromNew {
    /// All that can fail without what is the old one's has gone well.
    Ready { version: String },
    /// It ends instead.
    Refused { why: String },
    /// It serves; `notes` is what is not as it should be.
    Serving { notes: Vec<String> },
}

/// One end. The sockets keep packets apart as datagrams are, and tell of the other's end as streams do (SOCK_SEQPACKET).
#[derive(Debug)]
pub struct Link(UnixDatagram);

impl Link {
    /// Both ends; the second is for another process.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (mine, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(mine)?, other))
    }

    /// Must be called within a runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixDatagram::from_std(socket.into())?))
    }

    pub async fn send<T: Serialize>(&self, said: &T, socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let packet = serde_json::to_vec(said).map_err(io::Error::other)?;
        if packet.len() > PACKET_BYTES {
            return Err(io::Error::other("a packet of a handover is too long"));
        }
        self.0.async_io(Interest::WRITABLE, || write(self.0.as_fd(), &packet, socket)).await
    }

    /// The next packet and the sockets beside it; `None`: the other end is closed.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (packet, sockets) = loop {
            match self.0.async_io(Interest::READABLE, || read(self.0.as_fd())).await {
                // Told once of an end that had not read everything; what it had said before that comes behind it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                read => break read?,
            }
        };
        if packet.is_empty() {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&packet).map_err(io::Error::other)?, sockets)))
    }
}

fn write(link: BorrowedFd<'_>, packet: &[u8], socket: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
    if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("no room for a socket"));
    }
    // A packet goes whole or not at all.
    sendmsg(link, &[IoSlice::new(packet)], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn read(link: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut packet = vec![0; PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(link, &mut [IoSliceMut::new(&mut packet)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a packet of a handover was cut, or the process is out of descriptors"));
    }
    packet.truncate(got.bytes);
    let sockets = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let sockets = sockets.flatten().collect();
    Ok((packet, sockets))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn packets_stay_apart_and_sockets_beside_theirs() {
        let (old, new) = Link::pair().unwrap();
        let new = Link::new(new).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        old.send(&FromOld::Socket(Room::Edge), Some(listener.as_fd())).await.unwrap();
        old.send(&FromOld::Yours, None).await.unwrap();
        let (said, sockets) = new.receive::<FromOld>().await.unwrap().unwrap();
        assert_eq!(said, FromOld::Socket(Room::Edge));
        let passed: Vec<_> =
            sockets.into_iter().map(|s| TcpListener::from(s).local_addr().unwrap()).collect();
        assert_eq!(passed, [listener.local_addr().unwrap()]);
        let (said, sockets) = new.receive::<FromOld>().await.unwrap().unwrap();
        assert!(said == FromOld::Yours && sockets.is_empty());
        new.send(&FromNew::Ready { version: "2".into() }, None).await.unwrap();
        drop(new);
        // What was said before the end is heard.
        let heard = old.receive::<FromNew>().await.unwrap();
        assert_eq!(heard.unwrap().0, FromNew::Ready { version: "2".into() });
        assert!(matches!(old.receive::<FromNew>().await, Ok(None)));
        let too_long = FromNew::Refused { why: "x".repeat(PACKET_BYTES) };
        assert!(old.send(&too_long, None).await.is_err());
    }

    #[tokio::test]
    async fn the_last_words_of_one_that_did_not_listen_are_heard() {
        let (old, new) = Link::pair().unwrap();
        let new = Link::new(new).unwrap();
        old.send(&FromOld::Yours, None).await.unwrap();
        let last = FromNew::Refused { why: "the file is wrong".into() };
        new.send(&last, None).await.unwrap();
        drop(new);
        assert_eq!(old.receive::<FromNew>().await.unwrap().unwrap().0, last);
        assert!(matches!(old.receive::<FromNew>().await, Ok(None)));
    }

    #[tokio::test]
    async fn another_version_is_an_error_and_no_panic() {
        let (old, new) = Link::pair().unwrap();
        let new = Link::new(new).unwrap();
        new.send(&serde_json::json!({ "from-tomorrow": 1 }), None).await.unwrap();
        assert!(old.receive::<FromNew>().await.is_err());
    }
}
