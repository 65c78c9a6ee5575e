//! Where an edge listens, and how that changes while it runs.
//!
//! Everything new is bound before anything else happens, so a port that is taken changes nothing. A listener that is
//! given up takes what the kernel has accepted already; connections that came through it go on. Sockets of a process
//! before this one are taken where their addresses are named, and the others closed. The control side alone calls this.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::sync::{mpsc, watch};

use crate::client::Scheme;
use crate::config::{Addresses, Listeners};
use crate::error::StartError;
use crate::listen;

/// A listener of one worker.
pub struct Listener {
    pub socket: TcpListener,
    pub scheme: Scheme,
    /// Its sender is gone: the edge listens here no more.
    pub open: watch::Receiver<()>,
}

/// Where listeners come out, one end for each worker.
pub type Incoming = mpsc::UnboundedReceiver<Listener>;

/// The control side's ends.
pub struct Doors {
    http: Option<Door>,
    https: Option<Door>,
    workers: Vec<mpsc::UnboundedSender<Listener>>,
    /// Of a process before this one, until the first doors open.
    inherited: Vec<TcpListener>,
}

struct Door {
    asked: SocketAddr,
    bound: SocketAddr,
    /// The same sockets that the workers have, for a process after this one.
    sockets: Vec<TcpListener>,
    /// Held while it is open.
    _open: watch::Sender<()>,
}

/// What will be open, bound already.
pub struct Bound {
    http: Change,
    https: Change,
}

enum Change {
    Stays,
    Closes,
    Opens { asked: SocketAddr, bound: SocketAddr, sockets: Vec<TcpListener>, kept: Vec<TcpListener> },
}

impl Doors {
    /// Nothing is open yet.
    pub fn new(workers: usize, inherited: Vec<TcpListener>) -> (Self, Vec<Incoming>) {
        let (workers, incoming) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        (Self { http: None, https: None, workers, inherited }, incoming)
    }

    /// Binds what `listeners` name and is not open yet.
    ///
    /// # Errors
    /// [`StartError`]; what is open stays as it is then.
    pub fn bind(&self, listeners: &Listeners) -> Result<Bound, StartError> {
        if listeners.http.is_none() && listeners.https.is_none() {
            return Err(StartError::NoListener);
        }
        Ok(Bound {
            http: self.change(&self.http, listeners.http, "edge.http")?,
            https: self.change(&self.https, listeners.https, "edge.https")?,
        })
    }

    fn change(
        &self,
        door: &Option<Door>,
        asked: Option<SocketAddr>,
        which: &'static str,
    ) -> Result<Change, StartError> {
        let Some(asked) = asked else { return Ok(Change::Closes) };
        if door.as_ref().is_some_and(|door| door.asked == asked) {
            return Ok(Change::Stays);
        }
        let failed = |source| StartError::Bind { address: asked, which, source };
        let at_it = self.inherited.iter().filter(|socket| socket.local_addr().is_ok_and(|at| at == asked));
        let inherited = again(at_it).map_err(failed)?;
        let (bound, sockets) = listen::bind(asked, which, self.workers.len(), inherited)?;
        let kept = again(&sockets).map_err(failed)?;
        Ok(Change::Opens { asked, bound, sockets, kept })
    }

    /// Opens what was bound, then closes what it replaces, and what was inherited in vain.
    pub fn open(&mut self, bound: Bound) {
        let Self { http, https, workers, inherited } = self;
        put(http, bound.http, workers, Scheme::Http);
        put(https, bound.https, workers, Scheme::Https);
        inherited.clear();
    }

    /// The sockets that are open, once more.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        again([&self.http, &self.https].into_iter().flatten().flat_map(|door| &door.sockets))
    }

    /// Keeps no socket open beside the workers: they close theirs, and nothing listens then.
    pub fn let_go(&mut self) {
        [&mut self.http, &mut self.https].into_iter().flatten().for_each(|door| door.sockets.clear());
        self.inherited.clear();
    }

    /// With the ports that the kernel chose.
    pub fn addresses(&self) -> Addresses {
        let of = |door: &Option<Door>| door.as_ref().map(|door| door.bound);
        Addresses { http: of(&self.http), https: of(&self.https) }
    }
}

impl Bound {
    /// The port of HTTPS once this is open.
    pub fn https_port(&self, now: Addresses) -> Option<u16> {
        match &self.https {
            Change::Stays => now.https.map(|at| at.port()),
            Change::Closes => None,
            Change::Opens { bound, .. } => Some(bound.port()),
        }
    }
}

fn again<'s>(sockets: impl IntoIterator<Item = &'s TcpListener>) -> io::Result<Vec<TcpListener>> {
    sockets.into_iter().map(TcpListener::try_clone).collect()
}

fn put(door: &mut Option<Door>, change: Change, workers: &[mpsc::UnboundedSender<Listener>], scheme: Scheme) {
    *door = match change {
        Change::Stays => return,
        Change::Closes => None,
        Change::Opens { asked, bound, sockets, kept } => {
            let (sender, open) = watch::channel(());
            // There may be more sockets than workers, if the process before this one had more.
            for (worker, socket) in workers.iter().cycle().zip(sockets) {
                // A worker that has ended takes no more connections either way.
                let _ = worker.send(Listener { socket, scheme, open: open.clone() });
            }
            Some(Door { asked, bound, sockets: kept, _open: sender })
        }
    };
}
