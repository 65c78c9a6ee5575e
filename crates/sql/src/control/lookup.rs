//! Answers logins: the SCRAM verifier of a user, from the database itself. Nothing is kept: a changed password counts
//! at once.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Control, OWN_DATABASE};
use crate::server::{Server, ServerError};
use crate::{ServerLogin, Target};

/// A server that does not answer in this time is not asked.
const ANSWER_TIME: Duration = Duration::from_secs(3);

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

pub(super) async fn serve(control: &Control, mut lookups: mpsc::Receiver<Lookup>) {
    let mut open: Option<(Target, Server)> = None;
    while let Some(lookup) = lookups.recv().await {
        match lookup {
            Lookup::Database(name) => control.use_database(&name),
            Lookup::Verifier { answer, .. } if answer.is_closed() => {}
            Lookup::Verifier { user, answer } => {
                // Whoever asked may be gone by now.
                let _ = answer.send(find(control, &mut open, &user).await);
            }
        }
    }
}

async fn find(
    control: &Control,
    open: &mut Option<(Target, Server)>,
    user: &str,
) -> Result<Option<String>, String> {
    let targets = control.targets();
    let mut kept = open.take();
    let mut last = "the cluster has no server".to_owned();
    // In their order: a replica may not know yet who was created, or with which password.
    for target in targets {
        let known = kept.take_if(|(of, _)| *of == target);
        if let Some((_, mut server)) = known
            && server.stream.is_quiet()
            && let Ok(answer) = ask(control, &mut server, user).await
        {
            *open = Some((target, server));
            return Ok(answer);
        }
        let attempt = async {
            let mut server = control.connect(&target, OWN_DATABASE).await?;
            let answer = ask(control, &mut server, user).await?;
            Ok::<_, ServerError>((server, answer))
        };
        match attempt.await {
            Ok((server, answer)) => {
                *open = Some((target, server));
                return Ok(answer);
            }
            Err(error) => last = format!("{} ({}): {error}", target.node, target.address),
        }
    }
    Err(last)
}

async fn ask(control: &Control, server: &mut Server, user: &str) -> Result<Option<String>, ServerError> {
    let sql = match control.shared.settings.login {
        ServerLogin::Certificate(_) => MANAGED,
        ServerLogin::PassThrough { .. } => FOREIGN,
    };
    let rows = timeout(ANSWER_TIME, server.ask(sql, &[user]))
        .await
        .map_err(|_| ServerError::Timeout(ANSWER_TIME))??;
    Ok(rows.into_iter().flatten().next().flatten())
}
