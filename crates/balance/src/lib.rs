//! Which server is next, and which servers may be asked at all: pure decisions, shared by `edge` and `sql`.
//!
//! Nothing here does I/O, reads a clock or draws a random number; who calls brings the facts. [`Balancer`] picks for a
//! pool, [`RoundRobin`] alone is enough where there is only a turn to take; [`health`] and [`outlier`] say who may be
//! picked; [`RetryBudget`] says how much may be asked twice.

mod balancer;
mod hash;
pub mod health;
mod latency;
mod least_connections;
mod member;
pub mod outlier;
mod retry;
mod round_robin;
mod slow_start;
mod two_choices;
mod units;
mod weighted;

pub use balancer::{Algorithm, Ask, Balancer, NotPicked, Picked, Seat, Settings, Tier};
pub use latency::PeakEwma;
pub use member::{AsMember, Member};
pub use retry::{BudgetPolicy, Hedge, RetryBudget, Waiting, hedge};
pub use round_robin::RoundRobin;
pub use units::{Millis, Percent, mixed, number};
pub use weighted::WEIGHT_MAX;
