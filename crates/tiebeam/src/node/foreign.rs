//! PostgreSQL servers that others run: asks each, every second, whether it is in recovery, and tells the router who the
//! primary is. Nothing is ever promoted, and two primaries are none: which of them is right, only their owner knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tiebeam_sql::{Target, View};
use tiebeam_topology::{Epoch, NodeName};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

const EVERY: Duration = Duration::from_secs(1);
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// One server and the kept connection to it.
struct Server {
    name: NodeName,
    address: SocketAddr,
    client: Option<Client>,
    /// Why it did not answer when it was last asked.
    silent: Option<String>,
}

/// How a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Primary,
    Replica,
    Silent,
}

/// Runs forever; end it by aborting its task.
pub async fn detect(servers: Vec<SocketAddr>, login: Config, view: watch::Sender<Arc<View>>) {
    let mut servers: Vec<Server> = servers
        .iter()
        .enumerate()
        .filter_map(|(i, &address)| {
            let name = format!("server-{}", i + 1).parse().ok()?;
            Some(Server { name, address, client: None, silent: None })
        })
        .collect();
    loop {
        let answers = ask_all(&mut servers, &login).await;
        let old = view.borrow().clone();
        let new = next(&old, &answers);
        if *old != new {
            let primaries = answers.iter().filter(|(_, a)| *a == Answer::Primary).count();
            if primaries > 1 {
                tracing::warn!(
                    primaries,
                    "several PostgreSQL servers say that they are the primary: nothing is written until one of them is stopped or follows the other"
                );
            }
            tracing::info!(
                epoch = new.epoch.0,
                primary = new.primary.as_ref().map(|t| t.address.to_string()),
                replicas = new.replicas.len(),
                "the roles of the PostgreSQL servers changed"
            );
            view.send_replace(Arc::new(new));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Asks all at once, so that one that hangs does not delay what is known of the others.
async fn ask_all(servers: &mut Vec<Server>, login: &Config) -> Vec<(Target, Answer)> {
    let mut asked = JoinSet::new();
    for (place, mut server) in servers.drain(..).enumerate() {
        let login = login.clone();
        asked.spawn(async move {
            let answer = server.hear(&login).await;
            (place, server, answer)
        });
    }
    let mut heard = asked.join_all().await;
    heard.sort_by_key(|(place, ..)| *place);
    let mut answers = Vec::with_capacity(heard.len());
    for (_, server, answer) in heard {
        answers.push((target(&server), answer));
        servers.push(server);
    }
    answers
}

fn target(server: &Server) -> Target {
    Target { node: server.name.clone(), address: server.address, identity: server.address.ip().to_string() }
}

/// The view after these answers. Another primary is another epoch.
fn next(old: &View, answers: &[(Target, Answer)]) -> View {
    let of = |wanted| answers.iter().filter(move |(_, a)| *a == wanted).map(|(t, _)| t.clone());
    let primaries: Vec<Target> = of(Answer::Primary).collect();
    let primary = if let [one] = primaries.as_slice() { Some(one.clone()) } else { None };
    let changed = primary.is_some() && primary != old.primary;
    let epoch = if changed { old.epoch.next() } else { old.epoch };
    View { epoch: epoch.max(Epoch(1)), primary, replicas: of(Answer::Replica).collect() }
}

impl Server {
    /// The server's answer within [`ANSWER_TIME`]. When it falls silent, for whatever reason, that is said once.
    async fn hear(&mut self, login: &Config) -> Answer {
        let asked = tokio::time::timeout(ANSWER_TIME, self.ask(login)).await;
        let why = match asked {
            Ok(Ok(answer)) => {
                if self.silent.take().is_some() {
                    tracing::info!(address = %self.address, "the PostgreSQL server answers again");
                }
                return answer;
            }
            Ok(Err(error)) => words(&error),
            Err(_) => format!("no answer within {} s", ANSWER_TIME.as_secs()),
        };
        self.client = None;
        if self.silent.as_ref() != Some(&why) {
            tracing::warn!(
                address = %self.address, why,
                "the router cannot ask this PostgreSQL server whether it is the primary, and sends it nothing"
            );
            self.silent = Some(why);
        }
        Answer::Silent
    }

    async fn ask(&mut self, login: &Config) -> Result<Answer, tokio_postgres::Error> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = None;
        }
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let mut login = login.clone();
                login.host(self.address.ip().to_string()).port(self.address.port());
                let (client, connection) = login.connect(NoTls).await?;
                tokio::spawn(connection);
                none.insert(client)
            }
        };
        let replica: bool =
            client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).await?.try_get(0)?;
        Ok(if replica { Answer::Replica } else { Answer::Primary })
    }
}

/// The server's own words, if it had any; the driver's leave them out.
fn words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        (None, Some(source)) => source.to_string(),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(words: &[Answer]) -> Vec<(Target, Answer)> {
        let one = |(i, answer): (usize, &Answer)| {
            let node = format!("server-{}", i + 1).parse().unwrap();
            (Target { node, address: ([127, 0, 0, 1], i as u16).into(), identity: String::new() }, *answer)
        };
        words.iter().enumerate().map(one).collect()
    }

    #[test]
    fn another_primary_is_another_epoch_and_two_are_none() {
        use Answer::*;
        let first = next(&View::default(), &answers(&[Primary, Replica]));
        assert_eq!((first.epoch, first.replicas.len()), (Epoch(1), 1));
        let silent = next(&first, &answers(&[Silent, Replica]));
        assert_eq!((silent.epoch, &silent.primary), (Epoch(1), &None));
        let moved = next(&silent, &answers(&[Silent, Primary]));
        assert_eq!(moved.epoch, Epoch(2));
        assert_eq!(next(&moved, &answers(&[Primary, Primary])).primary, None);
    }
}
