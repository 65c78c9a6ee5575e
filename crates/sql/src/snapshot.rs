//! What a worker needs to know of the cluster, as one immutable value behind an atomic swap. Published by `control`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::classify::Volatility;
use crate::fresh::{History, Sample};
use crate::{Target, View};

#[derive(Clone)]
pub(crate) struct Snapshot {
    pub view: Arc<View>,
    /// Grows with each new view.
    pub serial: u64,
    /// When the present epoch was first seen here.
    pub epoch_since: Instant,
    pub primary: History,
    /// The last sample of each of the view's replicas, in its order.
    pub replicas: Vec<Option<Sample>>,
    /// By the name of the database; what is not there was not loaded yet.
    pub catalogs: Arc<HashMap<String, Arc<Volatility>>>,
    /// For databases that are not loaded.
    pub builtin: Arc<Volatility>,
}

impl Snapshot {
    pub fn new(view: Arc<View>, now: Instant) -> Self {
        Self {
            replicas: vec![None; view.replicas.len()],
            view,
            serial: 1,
            epoch_since: now,
            primary: History::default(),
            catalogs: Arc::default(),
            builtin: Arc::new(Volatility::builtin()),
        }
    }

    /// The same world with another view: samples of servers that keep their role in the same epoch stay.
    pub fn with_view(&self, view: Arc<View>, now: Instant) -> Self {
        let same_epoch = view.epoch == self.view.epoch;
        let keep = |target: &Target| {
            let at = self.view.replicas.iter().position(|old| old == target)?;
            self.replicas.get(at).copied().flatten()
        };
        Self {
            serial: self.serial + 1,
            epoch_since: if same_epoch { self.epoch_since } else { now },
            primary: match same_epoch && view.primary == self.view.primary {
                true => self.primary.clone(),
                false => History::default(),
            },
            replicas: view.replicas.iter().map(keep).collect(),
            view,
            ..self.clone()
        }
    }

    /// What is known of the functions of a database.
    pub fn catalog(&self, database: &str) -> &Arc<Volatility> {
        self.catalogs.get(database).unwrap_or(&self.builtin)
    }
}
