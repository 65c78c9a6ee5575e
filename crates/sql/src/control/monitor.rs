//! Asks one server again and again what it is and where its log is, and publishes each answer.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tiebeam_topology::{Epoch, Timeline};
use tokio::time::{sleep, timeout};

use super::Control;
use crate::Target;
use crate::fresh::{SILENT_MAX, Sample};
use crate::server::{Server, ServerError};
use crate::wire::WireError;

/// Between two questions while there are sessions.
const EVERY: Duration = Duration::from_millis(20);
/// Between two questions while there are none; below [`SILENT_MAX`], so that the first read finds its replicas.
const EVERY_IDLE: Duration = Duration::from_millis(500);
/// Even when someone waits for a sample.
const EVERY_MIN: Duration = Duration::from_millis(1);
const RECONNECT_EVERY: Duration = Duration::from_millis(250);

/// A primary tells the end of its log, with what is not flushed yet: a commit may be acknowledged before it is flushed.
/// A replica tells what it has replayed; its timeline is the one it receives, else that of its last restartpoint.
/// `pg_stat_wal_receiver` shows it to members of `pg_read_all_stats`; without that right the second is used.
const QUESTION: &str = "SELECT r, CASE WHEN r THEN pg_catalog.pg_last_wal_replay_lsn() \
    ELSE pg_catalog.pg_current_wal_insert_lsn() END::text, \
    CASE WHEN r THEN coalesce((SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver), \
        (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())) \
    ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int \
    END::text FROM pg_catalog.pg_is_in_recovery() r";

pub(super) async fn watch(control: Rc<Control>, target: Target) {
    let mut was_ok = true;
    loop {
        let ended = observe(&control, &target, &mut was_ok).await;
        if was_ok {
            tracing::warn!(node = %target.node, address = %target.address, error = %ended,
                "the router cannot ask this server; its reads go elsewhere");
            was_ok = false;
        }
        sleep(RECONNECT_EVERY).await;
    }
}

/// Returns why it could not go on.
async fn observe(control: &Control, target: &Target, was_ok: &mut bool) -> ServerError {
    let mut server = match control.connect(target, super::OWN_DATABASE).await {
        Ok(server) => server,
        Err(error) => return error,
    };
    let mut nudged = control.shared.nudge.subscribe();
    loop {
        nudged.mark_unchanged();
        let epoch = control.snapshot.load().view.epoch;
        let sent = Instant::now();
        let sample = match timeout(SILENT_MAX, ask(&mut server, sent)).await {
            Ok(Ok(sample)) => sample,
            Ok(Err(error)) => return error,
            Err(_) => return ServerError::Timeout(SILENT_MAX),
        };
        if !*was_ok {
            tracing::info!(node = %target.node, "the server answers the router again");
            *was_ok = true;
        }
        publish(control, target, epoch, sample);
        let sessions = control.shared.clients.load(Ordering::Relaxed) > 0;
        sleep(EVERY_MIN).await;
        tokio::select! {
            () = sleep(if sessions { EVERY } else { EVERY_IDLE }) => {}
            _ = nudged.changed() => {}
        }
    }
}

async fn ask(server: &mut Server, sent: Instant) -> Result<Sample, ServerError> {
    let rows = server.ask(QUESTION, &[]).await?;
    let wrong = || ServerError::Wire(WireError::Form('D'));
    let [row] = rows.as_slice() else { return Err(wrong()) };
    let [Some(recovery), lsn, timeline] = row.as_slice() else { return Err(wrong()) };
    Ok(Sample {
        sent,
        in_recovery: recovery == "t",
        // A replica that has replayed nothing yet has no position.
        lsn: lsn.as_deref().unwrap_or("0/0").parse().map_err(|_| wrong())?,
        timeline: timeline.as_deref().and_then(|text| text.parse().ok()).map(Timeline),
    })
}

/// Adds the sample to the snapshot, if the server still has a place in the epoch in which it was asked.
fn publish(control: &Control, target: &Target, epoch: Epoch, sample: Sample) {
    let mut snapshot = control.snapshot.load_full();
    if snapshot.view.epoch != epoch {
        return;
    }
    let new = Arc::make_mut(&mut snapshot);
    if new.view.primary.as_ref() == Some(target) && !sample.in_recovery {
        new.primary.push(sample);
    }
    if let Some(at) = new.view.replicas.iter().position(|replica| replica == target) {
        new.replicas[at] = Some(sample);
    }
    control.publish(new.clone());
}
