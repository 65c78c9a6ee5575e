//! A real PostgreSQL takes a node's identity as its server certificate. Skipped where PostgreSQL is not installed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConnection, Stream};

use super::*;

/// Newest first: PostgreSQL as Debian packages it.
fn binaries() -> Option<PathBuf> {
    (14..=18)
        .rev()
        .map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")))
        .find(|p| p.join("postgres").exists())
}

/// PostgreSQL refuses to run as root.
fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|l| l.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Free on an address that nobody else has.
const PORT: u16 = 5433;

/// A loopback address of this process alone: a process's number has at most 22 bits (proc_sys_kernel(5), `pid_max`).
fn own_address() -> IpAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    IpAddr::from([127, 128 + high, middle, low])
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGQUIT is an immediate shutdown, which ends its children too.
        let _ = kill_process(Pid::from_child(&self.0), Signal::QUIT);
        let _ = self.0.wait();
    }
}

#[test]
fn postgresql_takes_the_identity() {
    let Some(bin) = binaries() else { return };
    let temp = tempfile::tempdir().unwrap();
    let (data, certs) = (temp.path().join("data"), temp.path().join("certs"));
    let a = identity(&authority(), "a");
    a.save(&certs).unwrap();
    fs::create_dir(&data).unwrap();
    let user = postgres_user();
    if let Some((uid, gid)) = user {
        let files = [CA_CERT, NODE_CERT, NODE_KEY].map(|name| certs.join(name));
        for path in [temp.path().into(), data.clone(), certs.clone()].into_iter().chain(files) {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(bin.join(program));
        command.args(args).current_dir(temp.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };
    let made =
        run("initdb", &["-D", "data", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let host = own_address();
    let settings = [
        format!("port={PORT}"),
        format!("listen_addresses={host}"),
        "unix_socket_directories=".into(),
        "fsync=off".into(),
        "ssl=on".into(),
        format!("ssl_cert_file={}", certs.join(NODE_CERT).display()),
        format!("ssl_key_file={}", certs.join(NODE_KEY).display()),
        format!("ssl_ca_file={}", certs.join(CA_CERT).display()),
    ];
    let mut args = vec!["-D", "data"];
    args.extend(settings.iter().flat_map(|s| ["-c", s.as_str()]));
    let mut server = Running(run("postgres", &args).spawn().unwrap());
    let mut log = std::io::BufReader::new(server.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready to accept connections") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut log, &mut line).unwrap() > 0, "PostgreSQL ended");
    }

    // SSLRequest (PostgreSQL docs, "Message Formats"), then a handshake that checks the name and presents our own.
    let mut tcp = TcpStream::connect((host, PORT)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    tcp.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let mut answer = [0];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    let name = "a.shop.tiebeam.internal".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(&a.client_config()), name).unwrap();
    let mut tls = Stream::new(&mut client, &mut tcp);
    // A StartupMessage for the user `postgres`; `trust` lets it in: the first message back is AuthenticationOk.
    let body = b"\0\x03\0\0user\0postgres\0\0";
    let length = (body.len() as u32 + 4).to_be_bytes();
    tls.write_all(&[&length[..], body].concat()).unwrap();
    let mut first = [0; 9];
    tls.read_exact(&mut first).unwrap();
    assert_eq!(first, *b"R\0\0\0\x08\0\0\0\0");
}
