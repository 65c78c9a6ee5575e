//! `tiebeam.toml` parsed into types that cannot be wrong, and the few words that every room shares.
//!
//! Nothing here opens a socket, starts a process or reads a clock: [`Cluster::parse`] takes text and gives a
//! checked [`Cluster`] or all that is wrong with the text. Every other room is given parts of a `Cluster`.

mod balancing;
mod difference;
mod file;
mod log_sample;
mod model;
mod moment;
mod name;
mod problem;
mod route;
mod schema;
mod wal;

pub use balancing::{Algorithm, Balancing, Ejection, HashBy, HashByError, PoolServer, Retries};
pub use difference::{Change, Takes};
pub use log_sample::{LogSample, Share};
pub use model::*;
pub use moment::Moment;
pub use name::{AppName, ClusterName, HostPattern, NameError, NodeName, PoolName};
pub use problem::{PROBLEMS_MAX, Problem, Problems, Span};
pub use route::{
    CHANGED_FIELDS_MAX, FieldEdits, Redirect, RedirectStatus, Route, RouteRules, SiteRules, StatusPattern,
    StatusPatternError, Target,
};
pub use schema::schema;
pub use wal::{Epoch, Lsn, ParseLsnError, Timeline};
