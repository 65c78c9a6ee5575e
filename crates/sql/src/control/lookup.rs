//! Answers logins: the SCRAM verifier of a user, from the database itself. Nothing is kept: a changed password counts
//! at once.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Control, OWN_DATABASE};
use crate::server::{Server, ServerError};
use crate::{ServerLogin, Target};

/// Longest time that one server has for its answer, connecting included; at most this part of the time that a login
/// waits (`hold`), so that one that hangs leaves time to ask the next.
const ANSWER_TIME: Duration = Duration::from_secs(2);
const ANSWER_PART_OF_HOLD: u32 = 4;
/// A server that did not answer is asked last for so long: the logins behind this one do not wait for it again.
const SILENT_TIME: Duration = Duration::from_secs(3);

/// What a session tells or asks.
pub(crate) enum Lookup {
    /// A user wants to log in.
    Verifier {
        user: String,
        /// `Err`: no server answered, in the words of the last. `Ok(None)`: no such user, or no password.
        answer: oneshot::Sender<Result<Option<String>, String>>,
    },
    /// A session of this database started.
    Database(String),
}

const MANAGED: &str = "SELECT tiebeam.verifier($1::name)";
const FOREIGN: &str = "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1::name AND rolcanlogin \
    AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now())";

/// What is known of the servers from one question to the next.
#[derive(Default)]
struct Asked {
    /// The one that answered last, and the connection to it.
    open: Option<(Target, Server)>,
    silent: Vec<(Target, Instant)>,
}

pub(super) async fn serve(control: &Control, mut lookups: mpsc::Receiver<Lookup>) {
    let mut asked = Asked::default();
    let mut views = control.shared.views.clone();
    while let Some(lookup) = lookups.recv().await {
        match lookup {
            Lookup::Database(name) => control.use_database(&name),
            Lookup::Verifier { answer, .. } if answer.is_closed() => {}
            Lookup::Verifier { user, answer } => {
                views.mark_unchanged();
                // Whoever asked may be gone by now; else it asks again at once if the cluster changed meanwhile.
                let found = tokio::select! {
                    found = asked.find(control, &user) => found,
                    _ = views.changed() => Err("the cluster changed".to_owned()),
                };
                let _ = answer.send(found);
            }
        }
    }
}

impl Asked {
    async fn find(&mut self, control: &Control, user: &str) -> Result<Option<String>, String> {
        let now = Instant::now();
        self.silent.retain(|(_, since)| now.saturating_duration_since(*since) < SILENT_TIME);
        // In their order: a replica may not know yet who was created, or with which password.
        let (mut targets, silent): (Vec<_>, Vec<_>) =
            control.targets().into_iter().partition(|target| self.silent.iter().all(|(s, _)| s != target));
        targets.extend(silent);
        let within = ANSWER_TIME.min(control.shared.settings.hold / ANSWER_PART_OF_HOLD);
        let mut last = "the cluster has no server".to_owned();
        for target in targets {
            let answer = match timeout(within, self.ask(control, &target, user)).await {
                Ok(answer) => answer,
                Err(_) => Err(ServerError::Timeout(within)),
            };
            match answer {
                Ok(answer) => {
                    self.silent.retain(|(silent, _)| *silent != target);
                    return Ok(answer);
                }
                Err(error) => {
                    last = format!("{} ({}): {error}", target.node, target.address);
                    self.silent.retain(|(silent, _)| *silent != target);
                    self.silent.push((target, Instant::now()));
                }
            }
        }
        Err(last)
    }

    /// On the kept connection, if it is to this server and still of use; else on a new one, which is kept then.
    async fn ask(
        &mut self,
        control: &Control,
        target: &Target,
        user: &str,
    ) -> Result<Option<String>, ServerError> {
        let kept = self.open.take_if(|(of, _)| of == target);
        if let Some((of, mut server)) = kept
            && server.stream.is_quiet()
            && let Ok(answer) = ask(control, &mut server, user).await
        {
            self.open = Some((of, server));
            return Ok(answer);
        }
        let mut server = control.connect(target, OWN_DATABASE).await?;
        let answer = ask(control, &mut server, user).await?;
        self.open = Some((target.clone(), server));
        Ok(answer)
    }
}

async fn ask(control: &Control, server: &mut Server, user: &str) -> Result<Option<String>, ServerError> {
    let sql = match control.shared.settings.login {
        ServerLogin::Certificate(_) => MANAGED,
        ServerLogin::PassThrough { .. } => FOREIGN,
    };
    let rows = server.ask(sql, &[user]).await?;
    Ok(rows.into_iter().flatten().next().flatten())
}
