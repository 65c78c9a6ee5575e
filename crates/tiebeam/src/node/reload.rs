//! Another file while the node runs: checked, compared with the one that is served, and taken whole or not at all.
//!
//! What an edge serves changes at once; what the node reads only when it starts is named, and then nothing changes. A file
//! or certificate that is wrong changes nothing either. `node/admin.rs` calls this.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tiebeam_topology::{Change, Cluster, Members, Role, Takes};
use tiebeam_watch::Level;
use tokio::sync::Mutex;

use super::board::Board;
use super::edge::{Changer, Served};
use super::identity::Identities;
use super::{Here, apps};
use crate::admin::Outcome;
use crate::cli::{self, WrongUse};

pub struct Reload {
    here: Arc<Here>,
    board: Arc<Board>,
    /// `None`: this node is no edge, and has nothing to change.
    edge: Option<Changer>,
    taken: Mutex<Taken>,
}

struct Taken {
    /// The file as it was last taken.
    cluster: Arc<Cluster>,
    /// Another process reads the file: what this one took now would be lost.
    is_handed_over: bool,
}

/// What a file would do.
struct Prepared {
    cluster: Arc<Cluster>,
    changes: Vec<Change>,
    /// Of a node that is an edge.
    served: Option<Served>,
    certificates: Vec<String>,
}

impl Reload {
    pub fn new(here: &Arc<Here>, board: &Arc<Board>, edge: Option<Changer>) -> Arc<Self> {
        let taken = Mutex::new(Taken { cluster: here.cluster.clone(), is_handed_over: false });
        Arc::new(Self { here: here.clone(), board: board.clone(), edge, taken })
    }

    /// What would change; nothing does.
    pub async fn plan(&self, file: &Path) -> Outcome {
        let taken = self.taken.lock().await;
        let outcome = self.outcome(file);
        match self.prepare(&taken.cluster, file, false).await {
            Ok(new) => {
                let refused = needs_restart(&new.changes);
                Outcome { changes: new.changes, certificates: new.certificates, refused, ..outcome }
            }
            Err(error) => refused(outcome, &error),
        }
    }

    /// Takes the file.
    pub async fn apply(&self, file: &Path) -> Outcome {
        let own = &self.here.options.file;
        let is_own =
            file == own || matches!((file.canonicalize(), own.canonicalize()), (Ok(a), Ok(b)) if a == b);
        let outcome = if is_own {
            self.take(file).await
        } else {
            let why = format!(
                "node {} starts from {}: put the new file there and apply that, so that the next start knows it",
                self.here.name,
                own.display()
            );
            Outcome { refused: Some(why), ..self.outcome(file) }
        };
        self.tell(&outcome);
        outcome
    }

    pub async fn on_signal(&self) {
        let file = self.here.options.file.clone();
        self.apply(&file).await;
    }

    /// Waits for a file that is being taken, and takes none from then on, until it is called with `false`: another process
    /// reads the file meanwhile, and this one may end.
    pub async fn hand_over(&self, is_handed_over: bool) {
        self.taken.lock().await.is_handed_over = is_handed_over;
    }

    async fn take(&self, file: &Path) -> Outcome {
        let mut taken = self.taken.lock().await;
        let outcome = self.outcome(file);
        if taken.is_handed_over {
            let why = "a new process is taking over, and may have read the file before: apply it again when `tiebeam upgrade` has ended";
            return Outcome { refused: Some(why.into()), ..outcome };
        }
        let new = match self.prepare(&taken.cluster, file, true).await {
            Ok(new) => new,
            Err(error) => return refused(outcome, &error),
        };
        let outcome = Outcome { changes: new.changes, certificates: new.certificates, ..outcome };
        if let Some(why) = needs_restart(&outcome.changes) {
            return Outcome { refused: Some(why), ..outcome };
        }
        if let (Some(edge), Some(served)) = (&self.edge, new.served)
            && let Err(error) = edge.change(served).await
        {
            return refused(outcome, &error);
        }
        taken.cluster = new.cluster;
        Outcome { applied: true, ..outcome }
    }

    /// Reads all that is new, and changes nothing; of the node's own certificates only where `may_issue`, for a node alone
    /// may have to make them.
    async fn prepare(&self, taken: &Cluster, file: &Path, may_issue: bool) -> anyhow::Result<Prepared> {
        let cluster = Arc::new(cli::load(file)?);
        let mut changes = taken.difference(&cluster);
        self.keep_checks(taken, &cluster, &mut changes);
        let is_taken = needs_restart(&changes).is_none();
        let (mut served, mut certificates) = (None, Vec::new());
        if let Some(edge) = self.edge.as_ref().filter(|_| is_taken) {
            let new = if may_issue {
                let own = Identities::load(&cluster, &self.here.name, &self.here.options.data)?;
                Served::load(cluster.clone(), own.site.as_ref())?
            } else {
                Served::load(cluster.clone(), self.here.identities.site.as_ref())?
            };
            certificates.extend(edge.served().await.renewed(&new).map(ToString::to_string));
            served = Some(new);
        }
        Ok(Prepared { cluster, changes, served, certificates })
    }

    /// The supervisor of the apps checks them by the pool's own check, which it takes at its start.
    fn keep_checks(&self, old: &Cluster, new: &Cluster, changes: &mut [Change]) {
        if !self.here.cluster.nodes[&self.here.name].roles.contains(&Role::App) {
            return;
        }
        let (before, after) = (apps::health(old), apps::health(new));
        let uses_other = |cluster: &Cluster, key: &str| {
            cluster.pools.iter().any(|(name, pool)| {
                let is_meant = key.strip_prefix("pool.").and_then(|rest| rest.strip_prefix(name.as_str()));
                let is_meant = is_meant
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(".health") || rest == ".app");
                matches!(&pool.members, Members::App(app) if is_meant && before.get(app) != after.get(app))
            })
        };
        for change in changes {
            if uses_other(old, &change.key) || uses_other(new, &change.key) {
                change.takes = Takes::Restart;
            }
        }
    }

    fn outcome(&self, file: &Path) -> Outcome {
        Outcome { node: self.here.name.to_string(), file: PathBuf::from(file), ..Outcome::default() }
    }

    /// In the log and on the timeline.
    fn tell(&self, outcome: &Outcome) {
        let (node, file) = (&outcome.node, outcome.file.display());
        for change in &outcome.changes {
            tracing::info!("{file}: {change}");
        }
        for host in &outcome.certificates {
            tracing::info!("{file}: the certificate of site {host} is another one");
        }
        match &outcome.refused {
            Some(why) => {
                tracing::error!("{file} is not taken; {node} goes on as before: {why}");
                let first = why.lines().next().unwrap_or_default();
                self.board.post(Level::Warning, format!("{node} goes on with its old file: {first}"));
            }
            None => {
                let count = outcome.changes.len() + outcome.certificates.len();
                self.board.tell(Level::Info, format!("{node} has taken its file anew: {count} change(s)"));
            }
        }
    }
}

fn refused(outcome: Outcome, error: &anyhow::Error) -> Outcome {
    let is_wrong = error.downcast_ref::<WrongUse>().is_some();
    Outcome { refused: Some(cli::whole(error)), is_wrong, ..outcome }
}

/// Why a file with these changes is not taken, if it is not.
fn needs_restart(changes: &[Change]) -> Option<String> {
    let keys: Vec<&str> =
        changes.iter().filter(|c| c.takes == Takes::Restart).map(|c| c.key.as_str()).collect();
    if keys.is_empty() {
        return None;
    }
    Some(format!(
        "{} {} read only when the node starts: `tiebeam upgrade` or restart it (one node after another), or take {} out of this change; nothing was changed",
        keys.join(", "),
        if keys.len() == 1 { "is" } else { "are" },
        if keys.len() == 1 { "it" } else { "them" },
    ))
}
