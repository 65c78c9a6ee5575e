//! Application servers: started on each node with the role `app`, watched, restarted, and shown to the load balancers
//! when they are healthy.
//!
//! [`Supervisor`] runs them: `supervisor.rs` observes (exits, probes, orders), `plan.rs` decides, `process.rs` acts.
//! It never gives a string to a shell, never leaks the environment of the agent to an app, never lets one run as root
//! unasked, and never tells what it gave to them. It does not register instances anywhere: the wiring does, from [`Supervisor::instances`].

mod event;
mod launch;
mod leash;
mod output;
mod plan;
mod probe;
mod process;
mod redact;
mod settings;
mod supervisor;
mod user;

pub use event::{Event, Happening};
pub use settings::{Instance, InstanceId, Secret, Settings, State};
pub use supervisor::Supervisor;

#[cfg(test)]
mod tests;
