//! Where the wiring puts the newest view and the pages take it from, with the series that grow out of the views.
//! It does no I/O; its locks are held for a copy only.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tiebeam_watch::{Extra, Series, Table, View};

/// A handle: clones share one board.
#[derive(Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    view: RwLock<Arc<View>>,
    own: RwLock<Arc<Vec<Extra>>>,
    series: Mutex<Series>,
}

// A poisoned lock is taken all the same: both values are whole after each assignment, so a panic elsewhere leaves
// nothing half done in them.
impl Board {
    pub fn new(view: View) -> Self {
        let view = Arc::new(view.judged());
        let (view, own) = (RwLock::new(view), RwLock::default());
        Self { shared: Arc::new(Shared { view, own, series: Mutex::default() }) }
    }

    /// Judges the view, takes its samples, and shows it from now on. About twice a second.
    pub fn publish(&self, view: View) {
        let view = Arc::new(view.judged());
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).take(&view);
        *self.shared.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// What this node alone counts, for `/metrics`.
    pub fn publish_own(&self, own: Vec<Extra>) {
        *self.shared.own.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(own);
    }

    pub fn own(&self) -> Arc<Vec<Extra>> {
        self.shared.own.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn view(&self) -> Arc<View> {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last quarter of an hour.
    pub fn table(&self) -> Table {
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).table()
    }

    /// The newest sample of a series, if it is fresh at `at_s`, seconds since 1970.
    pub fn latest(&self, name: &str, at_s: u64) -> Option<f64> {
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).latest(name, at_s)
    }

    /// Samples dropped at the bound of the number of series.
    pub fn dropped_samples_total(&self) -> u64 {
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).dropped_total()
    }
}
