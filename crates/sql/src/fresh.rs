//! Which replica has replayed what a session must see. Pure: samples and `now` are parameters.
//!
//! The rule it stands on: a write that was acknowledged before a question was *sent* to the primary has a place in the
//! log at or below the position in the answer. So a session remembers when its last write was acknowledged, and the
//! first sample sent after that moment gives the position that a replica must have replayed. Used by `route`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tiebeam_topology::{Epoch, Lsn, Timeline};

/// A replica whose last answer was asked for longer ago is not chosen.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(1);
/// A replica that is further behind the primary, in bytes of log, is not chosen.
pub(crate) const LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Samples of the primary kept to find the first one after a write.
const HISTORY: usize = 64;

/// What a server said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When the question was sent.
    pub sent: Instant,
    pub in_recovery: bool,
    /// The primary's insert position, or what a replica has replayed.
    pub lsn: Lsn,
    /// `None`: it could not tell.
    pub timeline: Option<Timeline>,
}

/// The primary's samples of one epoch and one timeline, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Sample>);

impl History {
    pub fn push(&mut self, sample: Sample) {
        if self.0.back().is_some_and(|last| last.timeline != sample.timeline) {
            self.0.clear();
        }
        if self.0.len() == HISTORY {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub fn latest(&self) -> Option<&Sample> {
        self.0.back()
    }

    /// The first sample that was asked for after `moment`.
    fn first_after(&self, moment: Instant) -> Option<&Sample> {
        let at = self.0.partition_point(|sample| sample.sent <= moment);
        self.0.get(at)
    }
}

/// What a session must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Floor {
    /// It has written nothing.
    #[default]
    Free,
    /// All that was acknowledged before this moment.
    After(Instant, Epoch),
    At(Lsn, Option<Timeline>, Epoch),
}

impl Floor {
    /// Brings the floor up to date: of another epoch it becomes the moment at which the epoch changed, and a moment
    /// becomes a position as soon as a sample tells it.
    pub fn settle(&mut self, epoch: Epoch, changed: Instant, primary: &History) {
        match *self {
            Self::Free => return,
            // A connection of before may have acknowledged a write after the epoch was seen to change.
            Self::After(moment, of) if of != epoch => *self = Self::After(moment.max(changed), epoch),
            Self::At(_, _, of) if of != epoch => *self = Self::After(changed, epoch),
            // The primary went on to another timeline within the epoch: positions of before mean nothing on it.
            Self::At(_, timeline, _) => {
                if let Some(latest) = primary.latest().filter(|latest| latest.timeline != timeline) {
                    *self = Self::After(latest.sent, epoch);
                }
            }
            Self::After(..) => {}
        }
        if let Self::After(moment, _) = *self
            && let Some(sample) = primary.first_after(moment)
        {
            *self = Self::At(sample.lsn, sample.timeline, epoch);
        }
    }
}

/// Why a replica is not chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// No recent answer, not a standby, another timeline, or too far behind for anyone.
    Unfit,
    /// It has not replayed what this session must see, or that is not known yet.
    Behind,
}

/// Whether a replica with this last sample may answer a session with this (settled) floor.
pub(crate) fn judge(
    replica: Option<&Sample>,
    floor: &Floor,
    primary: &History,
    now: Instant,
) -> Result<(), Unfit> {
    let sample = replica.ok_or(Unfit::Unfit)?;
    if !sample.in_recovery || now.saturating_duration_since(sample.sent) > SILENT_MAX {
        return Err(Unfit::Unfit);
    }
    if let Some(latest) = primary.latest() {
        let same_timeline = sample.timeline.is_some() && sample.timeline == latest.timeline;
        if !same_timeline || latest.lsn.ahead_of(sample.lsn) > LAG_BYTES_MAX {
            return Err(Unfit::Unfit);
        }
    }
    match *floor {
        Floor::Free => Ok(()),
        Floor::After(..) => Err(Unfit::Behind),
        Floor::At(lsn, timeline, _) if sample.timeline == timeline && sample.lsn >= lsn => Ok(()),
        Floor::At(..) => Err(Unfit::Behind),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const E1: Epoch = Epoch(1);

    fn sample(sent: Instant, lsn: u64) -> Sample {
        Sample { sent, in_recovery: true, lsn: Lsn::new(lsn), timeline: Some(Timeline(1)) }
    }

    fn primary(sent: Instant, lsn: u64) -> Sample {
        Sample { in_recovery: false, ..sample(sent, lsn) }
    }

    #[test]
    fn a_floor_waits_for_a_question_sent_after_the_write() {
        let t = Instant::now();
        let ms = |n| t + Duration::from_millis(n);
        let mut history = History::default();
        history.push(primary(ms(10), 100));
        let mut floor = Floor::After(ms(10), E1);
        floor.settle(E1, t, &history);
        assert_eq!(floor, Floor::After(ms(10), E1), "sent at the same moment is not after it");
        assert_eq!(judge(Some(&sample(ms(11), 999)), &floor, &history, ms(11)), Err(Unfit::Behind));
        history.push(primary(ms(11), 120));
        history.push(primary(ms(12), 150));
        floor.settle(E1, t, &history);
        assert_eq!(floor, Floor::At(Lsn::new(120), Some(Timeline(1)), E1));
        assert_eq!(judge(Some(&sample(ms(12), 119)), &floor, &history, ms(13)), Err(Unfit::Behind));
        assert_eq!(judge(Some(&sample(ms(12), 120)), &floor, &history, ms(13)), Ok(()));
    }

    #[test]
    fn who_is_never_chosen() {
        let t = Instant::now();
        let now = t + Duration::from_secs(5);
        let mut history = History::default();
        history.push(primary(now, LAG_BYTES_MAX + 100));
        let good = sample(now, LAG_BYTES_MAX);
        let no = |s: Option<&Sample>| judge(s, &Floor::Free, &history, now);
        assert_eq!(no(Some(&good)), Ok(()));
        assert_eq!(no(None), Err(Unfit::Unfit));
        assert_eq!(no(Some(&Sample { sent: t, ..good })), Err(Unfit::Unfit), "silent");
        assert_eq!(no(Some(&Sample { in_recovery: false, ..good })), Err(Unfit::Unfit), "promoted");
        assert_eq!(no(Some(&Sample { timeline: None, ..good })), Err(Unfit::Unfit), "unknown timeline");
        assert_eq!(
            no(Some(&Sample { timeline: Some(Timeline(2)), ..good })),
            Err(Unfit::Unfit),
            "other timeline"
        );
        assert_eq!(no(Some(&Sample { lsn: Lsn::new(99), ..good })), Err(Unfit::Unfit), "too far");
    }

    #[test]
    fn epochs_and_timelines_start_anew() {
        let t = Instant::now();
        let ms = |n| t + Duration::from_millis(n);
        let mut floor = Floor::At(Lsn::new(5), Some(Timeline(1)), E1);
        let mut history = History::default();
        let mut late = Floor::After(ms(9), E1);
        late.settle(Epoch(2), ms(7), &history);
        assert_eq!(late, Floor::After(ms(9), Epoch(2)), "acknowledged after the change");
        floor.settle(Epoch(2), ms(7), &history);
        assert_eq!(floor, Floor::After(ms(7), Epoch(2)));
        let second = |sent, lsn| Sample { timeline: Some(Timeline(2)), ..primary(sent, lsn) };
        history.push(second(ms(6), 3));
        floor.settle(Epoch(2), ms(7), &history);
        assert_eq!(floor, Floor::After(ms(7), Epoch(2)));
        history.push(second(ms(8), 4));
        floor.settle(Epoch(2), ms(7), &history);
        assert_eq!(floor, Floor::At(Lsn::new(4), Some(Timeline(2)), Epoch(2)));
        history.push(Sample { timeline: Some(Timeline(3)), ..primary(ms(9), 4) });
        floor.settle(Epoch(2), ms(7), &history);
        assert_eq!(
            floor,
            Floor::After(ms(9), Epoch(2)),
            "the sample that shows the new timeline is no proof yet"
        );
    }

    /// One step of a small world: time passes, the log grows, replicas replay, questions and answers cross.
    #[derive(Clone, Debug)]
    enum Step {
        OtherWrite(u8),
        /// The session writes; acknowledged at once.
        Write(u8),
        Replay(usize, u8),
        AskPrimary,
        AnswerPrimary,
        SampleReplica(usize),
        Read,
        /// Replica 0 becomes primary: the log ends at what it had replayed, which includes all acknowledged (quorum).
        FailOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..9u8).prop_map(Step::OtherWrite),
            (1..9u8).prop_map(Step::Write),
            (0..2usize, 0..20u8).prop_map(|(r, n)| Step::Replay(r, n)),
            Just(Step::AskPrimary),
            Just(Step::AnswerPrimary),
            (0..2usize).prop_map(Step::SampleReplica),
            Just(Step::Read),
            Just(Step::FailOver),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn never_a_replica_that_lacks_the_sessions_write(steps in steps()) {
            let start = Instant::now();
            let mut now = start;
            let (mut log, mut must, mut timeline, mut epoch, mut changed) = (0u64, 0u64, 1u32, 1u64, start);
            let mut replayed = [(0u64, 1u32); 2];
            let mut samples: [Option<Sample>; 2] = [None; 2];
            let mut history = History::default();
            let mut asked: Option<(Instant, u64, u64)> = None;
            let mut floor = Floor::Free;
            for step in steps {
                now += Duration::from_millis(3);
                match step {
                    Step::OtherWrite(n) => log += u64::from(n),
                    Step::Write(n) => {
                        log += u64::from(n);
                        must = log;
                        floor = Floor::After(now, Epoch(epoch));
                    }
                    Step::Replay(r, n) => {
                        replayed[r] = ((replayed[r].0 + u64::from(n)).min(log), timeline);
                    }
                    // The position is read after the question was sent: at the earliest right then.
                    Step::AskPrimary => asked = Some((now, log, epoch)),
                    Step::AnswerPrimary => if let Some((sent, lsn, of)) = asked.take() && of == epoch {
                        history.push(Sample {
                            sent, in_recovery: false, lsn: Lsn::new(lsn), timeline: Some(Timeline(timeline)),
                        });
                    },
                    Step::SampleReplica(r) => samples[r] = Some(Sample {
                        sent: now, in_recovery: true, lsn: Lsn::new(replayed[r].0),
                        timeline: Some(Timeline(replayed[r].1)),
                    }),
                    Step::FailOver => {
                        epoch += 1;
                        timeline += 1;
                        changed = now;
                        history = History::default();
                        // Unacknowledged log is cut off and written anew; a replica beyond it is rewound.
                        log = must.max(replayed[0].0);
                        for r in &mut replayed { r.0 = r.0.min(must); }
                    }
                    Step::Read => {
                        floor.settle(Epoch(epoch), changed, &history);
                        for sample in &samples {
                            if judge(sample.as_ref(), &floor, &history, now).is_ok() {
                                // What was sampled can only have grown since, within its timeline.
                                let at_least = sample.map_or(0, |s| s.lsn.bytes());
                                prop_assert!(floor == Floor::Free || at_least >= must);
                            }
                        }
                    }
                }
            }
        }
    }
}
