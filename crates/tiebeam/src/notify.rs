//! Tells the init system how far the daemon is, by sd_notify(3): a datagram to the socket that NOTIFY_SOCKET names.
//! Without one it does nothing, and nothing depends on whether it is heard.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// This process is the daemon, and serves.
pub fn ready() {
    tell("READY=1");
}

/// It ends, in order.
pub fn stopping() {
    tell("STOPPING=1");
}

/// The daemon is another process from now on.
pub fn main_is(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

fn tell(what: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&name, what) {
        tracing::warn!(%error, what, "the init system could not be told");
    }
}

/// `name` is a path, or a name without one that begins with `@` (unix(7)).
fn send(name: &OsStr, what: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A reader that has fallen asleep must not hold the daemon up.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    socket.send(what.as_bytes()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_name_are_both_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("tiebeam-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, at) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            send(&at, "MAINPID=7").unwrap();
            let mut heard = [0; 32];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"MAINPID=7");
        }
        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
    }
}
