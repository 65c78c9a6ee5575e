//! Application servers: started on each node with the role `app`, watched, restarted, and shown to the load balancers
//! when they are healthy.
//!
//! [`Supervisor`] runs them: `supervisor.rs` observes (exits, probes, orders), `plan.rs` decides, `process.rs` acts.
//! It never gives a string to a shell, never leaks the environment of the agent to an app, and never logs what it
//! gives to them. It does not register instances anywhere: the wiring does, from [`Supervisor::instances`].

mod event;
mod launch;
mod leash;
mod output;
mod plan;
mod probe;
mod process;
mod settings;
mod supervisor;

pub use event::{Event, Happening};
pub use launch::LaunchError;
pub use plan::{BACKOFF_FIRST, BACKOFF_MOST, BACKOFF_RESET, backoff};
pub use settings::{Bounds, Instance, InstanceId, Secret, Settings, State, User};
pub use supervisor::Supervisor;

#[cfg(test)]
mod tests;
