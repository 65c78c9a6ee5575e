//! `tiebeam explain TOPIC`: what a thing is, how it differs from its alternative, what this cluster does with it right
//! now, and what happens if each node dies.

use std::process::ExitCode;

use super::{WrongUse, complain};
use crate::explain::{Topic, explain};

#[derive(clap::Args)]
pub struct Arguments {
    /// round-robin, active-active, primary-replica, failover or durability
    topic: Topic,
    #[command(flatten)]
    cluster: super::ask::Cluster,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let view = match arguments.cluster.view() {
        Err(error) if error.downcast_ref::<WrongUse>().is_some() => return Err(error),
        view => view,
    };
    super::say(explain(arguments.topic, view.as_ref().ok()).trim_end());
    if let Err(error) = view {
        complain(format_args!("what this cluster does now is not known: {error:#}"));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}
