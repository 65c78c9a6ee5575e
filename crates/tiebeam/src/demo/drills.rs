//! The faults that the demo knows: what each hits, how it is done, and when it is over.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tiebeam_topology::{Epoch, NodeName, Role};
use tiebeam_watch::View;

use super::client::Notes;
use super::observer::Seen;
use super::processes::{Processes, RESTART_PAUSE, signal};
use super::receipt::Drill;

/// How long a cluster may take to acknowledge writes after a fault.
const RECOVERY_TIME: Duration = Duration::from_secs(30);
/// Watched on after the recovery, so that a relapse is part of the result.
const AFTERWARDS: Duration = Duration::from_millis(1500);
/// How long a killed node stays away: well over a lease, so that whoever takes over does so without it.
const POWER_OFF_TIME: Duration = Duration::from_secs(6);
/// How long `pause-agent` keeps the daemon stopped: well over a lease.
const PAUSE: Duration = Duration::from_secs(8);
/// How long `kill-node-behind` keeps the streams still before the node dies.
const STALL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One application server, by SIGKILL.
    KillApp,
    /// The daemon with a load balancer in it, on a node that is not the primary's.
    KillEdge,
    /// The primary's PostgreSQL.
    KillPrimary,
    /// Everything on the primary's node.
    KillNode,
    /// The daemon on the primary's node stops without dying.
    PauseAgent,
    /// Everything on every node.
    KillAll,
    /// Everything on the primary's node, after the replicas' streams have stood still for a second.
    KillNodeBehind,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::KillApp,
        Self::KillEdge,
        Self::KillPrimary,
        Self::KillNode,
        Self::PauseAgent,
        Self::KillAll,
        Self::KillNodeBehind,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::KillApp => "kill-app",
            Self::KillEdge => "kill-edge",
            Self::KillPrimary => "kill-primary",
            Self::KillNode => "kill-node",
            Self::PauseAgent => "pause-agent",
            Self::KillAll => "kill-all",
            Self::KillNodeBehind => "kill-node-behind",
        }
    }

    /// The node that it hits, by the state of the cluster.
    pub fn target(self, view: &View) -> Option<NodeName> {
        let primary = view.database.as_ref()?.primary.clone();
        match self {
            Self::KillPrimary | Self::KillNode | Self::PauseAgent | Self::KillAll | Self::KillNodeBehind => {
                primary
            }
            Self::KillEdge => {
                view.edges_alive().map(|(n, _)| n.clone()).find(|n| Some(n) != primary.as_ref())
            }
            Self::KillApp => {
                let ready = view.with_role(Role::App).filter(|(_, n)| n.apps.iter().any(|i| i.ready));
                ready.last().map(|(n, _)| n.clone())
            }
        }
    }

    /// Whether another primary must have taken over before it counts as recovered.
    fn changes_primary(self) -> bool {
        matches!(self, Self::KillPrimary | Self::KillNode | Self::PauseAgent | Self::KillNodeBehind)
    }

    /// Does it. Says why not if the target is not there any more. Gives the processes that stand still first, if the
    /// fault comes in two steps.
    fn inject(self, view: &View, node: &NodeName, processes: &mut Processes) -> Result<Vec<i32>, String> {
        let gone = |what: &str| format!("{what} on {node} is not there to be hit");
        match self {
            Self::KillApp => {
                let pid = view.nodes.get(node).and_then(|n| n.apps.iter().find_map(|i| i.pid));
                // What the view says is a moment old: the number may be another process's by now.
                let pid = pid.and_then(|p| i32::try_from(p).ok()).filter(|p| processes.owns(*p));
                signal(pid.ok_or_else(|| gone("an application server"))?, libc::SIGKILL);
            }
            Self::KillEdge => {
                signal(processes.daemon_pid(node).ok_or_else(|| gone("the daemon"))?, libc::SIGKILL);
            }
            Self::PauseAgent => {
                signal(processes.daemon_pid(node).ok_or_else(|| gone("the daemon"))?, libc::SIGSTOP);
            }
            Self::KillPrimary => {
                signal(processes.postgres_pid(node).ok_or_else(|| gone("PostgreSQL"))?, libc::SIGKILL);
            }
            Self::KillNode => processes.kill_node(node, POWER_OFF_TIME),
            Self::KillAll => {
                let all: Vec<NodeName> = view.nodes.keys().cloned().collect();
                all.iter().for_each(|n| processes.kill_node(n, RESTART_PAUSE));
            }
            Self::KillNodeBehind => return Self::stall(view, processes),
        }
        Ok(Vec::new())
    }

    fn stall(view: &View, processes: &Processes) -> Result<Vec<i32>, String> {
        let streams: Vec<i32> = view.nodes.keys().flat_map(|n| processes.stream_pids(n)).collect();
        streams.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
        if streams.is_empty() { Err("no replica streams".into()) } else { Ok(streams) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|f| f.name()).collect();
            format!("there is no drill {text:?}; there are {}", names.join(", "))
        })
    }
}

/// A drill under way: it is asked again and again, so that the screen and the processes are tended meanwhile.
pub struct Running {
    pub fault: Fault,
    pub node: NodeName,
    epoch: Epoch,
    /// The fault's moment, milliseconds since the run's start.
    pub from_ms: u64,
    recovered_at_ms: Option<u64>,
    resumed: bool,
    /// Streams that stand still until the node is killed.
    stalled: Vec<i32>,
}

impl Running {
    pub fn start(
        fault: Fault,
        view: &View,
        processes: &mut Processes,
        notes: &Notes,
    ) -> Result<Self, String> {
        let node = fault.target(view).ok_or_else(|| format!("{fault}: there is nothing to hit"))?;
        let epoch = view.database.as_ref().map_or(Epoch(0), |d| d.epoch);
        let from_ms = notes.now_ms();
        let stalled = fault.inject(view, &node, processes)?;
        Ok(Self { fault, node, epoch, from_ms, recovered_at_ms: None, resumed: false, stalled })
    }

    /// The drill's result once it is over. `None`: not yet.
    pub fn poll(&mut self, seen: &Seen, processes: &mut Processes, notes: &Notes) -> Option<Drill> {
        let now_ms = notes.now_ms();
        if !self.stalled.is_empty() {
            if now_ms - self.from_ms >= STALL.as_millis() as u64 {
                processes.kill_node(&self.node, POWER_OFF_TIME);
                // What is still in their sockets dies with them.
                std::mem::take(&mut self.stalled).into_iter().for_each(|pid| signal(pid, libc::SIGKILL));
                self.from_ms = notes.now_ms();
            }
            return None;
        }
        let since = Duration::from_millis(now_ms - self.from_ms);
        if self.fault == Fault::PauseAgent && !self.resumed && since >= PAUSE {
            self.resume(processes);
        }
        let database = seen.view.as_ref().and_then(|v| v.database.as_ref());
        let epoch = database.map_or(self.epoch, |d| d.epoch);
        if self.recovered_at_ms.is_none() {
            let led = database.is_some_and(|d| d.primary.is_some())
                && (!self.fault.changes_primary() || epoch > self.epoch);
            // What was on its way when the fault struck may still be acknowledged: that is no recovery yet.
            let settled = since > Duration::from_millis(500);
            if led && settled && notes.with(|t| t.acknowledged_since(now_ms.saturating_sub(200))) {
                self.recovered_at_ms = Some(now_ms);
            }
        }
        let over = match self.recovered_at_ms {
            Some(at_ms) => now_ms - at_ms >= AFTERWARDS.as_millis() as u64,
            None => since >= RECOVERY_TIME,
        };
        let paused = self.fault == Fault::PauseAgent && !self.resumed;
        (over && !paused).then(|| self.result(epoch, now_ms, notes))
    }

    /// Lets a paused daemon go on.
    pub fn resume(&mut self, processes: &Processes) {
        if let Some(pid) = processes.daemon_pid(&self.node) {
            signal(pid, libc::SIGCONT);
        }
        self.resumed = true;
    }

    fn result(&self, epoch: Epoch, now_ms: u64, notes: &Notes) -> Drill {
        notes.with(|t| Drill {
            name: self.fault.name().into(),
            node: self.node.clone(),
            recovered_ms: self.recovered_at_ms.map(|_| t.longest_gap_ms(self.from_ms, now_ms)),
            failed_requests: t.failed_between(self.from_ms, now_ms),
            lost: 0,
            epoch: [self.epoch, epoch],
            over_ms: now_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert!("kill-everything".parse::<Fault>().unwrap_err().contains("kill-primary"));
    }
}
