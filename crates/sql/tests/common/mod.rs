//! A real PostgreSQL primary and its streaming replica, for tests: made in a temporary folder, ended with the value.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tiebeam_sql::{Router, View};
use tokio::sync::watch;

pub const PASSWORD: &str = "pencil";

/// A folder that is removed at the end, owned by the user that PostgreSQL runs as.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = Self(tempfile::Builder::new().prefix("tiebeam-sql-").tempdir_in("/tmp").unwrap());
        own(folder.path());
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The user that PostgreSQL runs as: it refuses to be root.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line =
        passwd.lines().find(|l| l.starts_with("postgres:")).expect("tests as root need a user postgres");
    let field = |i| line.split(':').nth(i).unwrap().parse().unwrap();
    Some((field(2), field(3)))
}

pub fn own(path: &Path) {
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A program of PostgreSQL, found where distributions put it.
pub fn program(name: &str) -> Command {
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = entries.filter_map(|entry| {
        let path = entry.unwrap().path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        Some((version, path.join("bin"))).filter(|(_, folder)| folder.join("initdb").exists())
    });
    // Where there is none of these, the one in the search path.
    let path = versions.max().map_or_else(|| PathBuf::from(name), |(_, folder)| folder.join(name));
    let mut command = Command::new(path);
    let search = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", search)
        .env("LC_ALL", "C.UTF-8")
        .env("PGPASSWORD", PASSWORD)
        .current_dir("/tmp");
    command
}

fn as_user(mut command: Command) -> Command {
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

pub fn done(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A fresh server answers in this time.
const START_TIME: Duration = Duration::from_secs(60);
/// Ports tried.
const PORTS_MAX: usize = 5;

fn log_of(data: &Path) -> String {
    fs::read_to_string(data.join("log.txt")).unwrap_or_default()
}

pub struct Postgres {
    pub port: u16,
    pub data: PathBuf,
    child: Child,
}

impl Postgres {
    /// A primary with SCRAM for all, the superuser `postgres` and some more settings.
    pub fn primary(folder: &Folder, settings: &str, hba: &str) -> Self {
        let data = folder.path().join("primary");
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        own(&password);
        let mut initdb = as_user(program("initdb"));
        initdb
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--pwfile"])
            .arg(&password);
        initdb.arg("-D").arg(&data);
        done(initdb);
        fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let sockets = folder.path().display();
        let common = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{sockets}'\nfsync = off\nmax_connections = 60\n\
             shared_buffers = 16MB\nwal_level = replica\nhot_standby = on\nwal_retrieve_retry_interval = 200ms\nmax_standby_streaming_delay = 10s\n{settings}\n"
        );
        let conf = data.join("postgresql.conf");
        fs::write(&conf, fs::read_to_string(&conf).unwrap() + &common).unwrap();
        Self::start(data)
    }

    /// A streaming replica of `primary`.
    pub fn replica(folder: &Folder, primary: &Postgres, name: &str) -> Self {
        let data = folder.path().join(name);
        let mut backup = as_user(program("pg_basebackup"));
        let port = primary.port.to_string();
        backup.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]);
        backup.arg("-D").arg(&data);
        done(backup);
        Self::start(data)
    }

    /// On a port that is free when it looks; should another take it meanwhile, on the next one.
    fn start(data: PathBuf) -> Self {
        (0..PORTS_MAX)
            .find_map(|_| Self::start_at(&data, free_port()))
            .unwrap_or_else(|| panic!("PostgreSQL does not start:\n{}", log_of(&data)))
    }

    /// `None`: it ended at once.
    fn start_at(data: &Path, port: u16) -> Option<Self> {
        let log = fs::File::create(data.join("log.txt")).unwrap();
        let mut command = as_user(program("postgres"));
        command.arg("-D").arg(data).args(["-p", &port.to_string()]).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: between fork and exec only one system call is made, which allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::QUIT))?));
        }
        let child = command.spawn().unwrap();
        let mut server = Self { port, data: data.to_owned(), child };
        let deadline = Instant::now() + START_TIME;
        while server.child.try_wait().unwrap().is_none() {
            let mut ready = program("pg_isready");
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            if ready.status().unwrap().success() {
                return Some(server);
            }
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{}", log_of(data));
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Stops it in order, starts it as a standby at the same port and promotes it: the same server, on its next timeline.
    pub fn promote_anew(&mut self) {
        self.signal(Signal::INT);
        self.child.wait().unwrap();
        let signal = self.data.join("standby.signal");
        fs::write(&signal, "").unwrap();
        own(&signal);
        let again = Self::start_at(&self.data, self.port);
        *self = again.unwrap_or_else(|| panic!("it does not start again:\n{}", log_of(&self.data)));
        self.sql("SELECT pg_promote()");
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops or continues it with all its processes.
    pub fn signal_all(&self, signal: Signal) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        for child in fs::read_to_string(children).unwrap().split_whitespace() {
            let _ = kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), signal);
        }
        self.signal(signal);
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Runs SQL as the superuser; the unaligned answer.
    pub fn sql(&self, sql: &str) -> String {
        psql(self.port, "postgres", "postgres", sql)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// psql without its start-up file; it fails at the first error.
pub fn psql_command(port: u16, user: &str, database: &str) -> Command {
    let mut psql = program("psql");
    let port = port.to_string();
    psql.args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        user,
        database,
    ]);
    psql
}

pub fn psql(port: u16, user: &str, database: &str, sql: &str) -> String {
    let mut psql = psql_command(port, user, database);
    psql.args(["-c", sql]);
    String::from_utf8(done(psql).stdout).unwrap().trim().to_owned()
}

/// What must come true soon has come true in this time, on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits for what must come true soon.
pub fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !test() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

pub async fn eventually_async(what: &str, mut test: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !test().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Publishes a view and returns when the router acts by it: until then a statement may still go where it went before.
pub async fn publish(router: &Router, views: &watch::Sender<Arc<View>>, view: View) {
    let (epoch, primary) = (view.epoch, view.primary.as_ref().map(|target| target.node.clone()));
    views.send_replace(Arc::new(view));
    eventually_async("the router acts by the view", async || {
        let stats = router.stats();
        stats.epoch == epoch && stats.primary == primary
    })
    .await;
}

/// Waits until the replica has replayed all that is committed on the primary now: a session that has written nothing
/// itself may be answered by a replica as it is.
pub fn caught_up(primary: &Postgres, replica: &Postgres) {
    let end = primary.sql("SELECT pg_current_wal_flush_lsn()");
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
    eventually("the replica has replayed it", || replica.sql(&replayed) == "t");
}
