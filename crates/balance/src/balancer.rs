//! Which server of a pool is next: tiers first (same node, the others, backups), then the pool's algorithm among those
//! that serve, are not full and were not tried yet.
//!
//! A pick allocates nothing and takes no lock, whoever else picks at the same moment. It never picks who does not serve
//! while somebody does, with two exceptions that are meant: the one request of a trial, and [`Settings::panic`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::health::{Change, State};
use crate::member::{AsMember, Member, Standing};
use crate::outlier::{self, Window, may_eject};
use crate::units::{Millis, Percent};
use crate::weighted::{Schedule, WEIGHT_MAX};
use crate::{RoundRobin, hash, least_connections, slow_start, two_choices};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// One after another, whatever their weights.
    RoundRobin,
    /// The same, each as often as its weight says.
    Weighted,
    LeastConnections,
    TwoChoices,
    /// By [`Ask::key`].
    Hash,
}

/// Who is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// On the node that asks: before all others.
    Local,
    Primary,
    /// Only while none of the others serves.
    Backup,
}

/// What a configuration says of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The same wherever and whenever the server is the same: [`crate::number`] of its name.
    pub identity: u64,
    /// 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    pub tier: Tier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub algorithm: Algorithm,
    /// Over this time the share of a server that has begun to serve grows; zero: at once.
    pub slow_start: Duration,
    /// If less than this share of the servers that are no backups serves, all of them are asked, those that are draining
    /// excepted: the few would break down too. Zero: never.
    pub panic: Percent,
    /// Requests in flight for one server; 0: no bound.
    pub in_flight: u32,
    /// `None`: nobody is ejected for what clients met.
    pub outlier: Option<outlier::Policy>,
}

/// The facts of one pick.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub now: Millis,
    pub random: u64,
    /// For [`Algorithm::Hash`].
    pub key: u64,
    /// The index of the server that this client was sent to before.
    pub stuck_to: Option<usize>,
    /// Those that this request was already sent to: only taken if nobody else is left.
    pub tried: &'a [usize],
    /// Another server may be asked if this one fails: then it may be one that is on trial.
    pub is_repeatable: bool,
}

/// Who it is. Its place in the server's load is taken: [`Balancer::release`] gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub index: usize,
    /// The one request of a server that is on trial: [`Balancer::end_trial`] must hear of its end.
    pub is_trial: bool,
    /// Nobody looked at states: fewer than [`Settings::panic`] serve.
    pub is_panic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPicked {
    /// Nobody serves, and nobody who might is left.
    Nobody,
    /// All who serve have as many requests in flight as they may.
    Full,
}

/// The servers of one pool under one configuration. The slice of members that is passed in has the order of the seats.
#[derive(Debug)]
pub struct Balancer {
    settings: Settings,
    seats: Box<[Seat]>,
    /// Of [`Algorithm::Weighted`].
    schedule: Option<Schedule>,
    circle: Arc<RoundRobin>,
    /// Where [`Algorithm::LeastConnections`] begins to look.
    cursor: AtomicUsize,
    has_local: bool,
    has_backup: bool,
    /// Somebody is on trial, as of the last [`Balancer::tick`].
    has_trials: AtomicBool,
    /// Held while one more is ejected, so that two at once do not exceed the share.
    ejecting: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Local,
    Primary,
    Panic,
    Backup,
    /// Nobody serves: a wrong guess costs one attempt, and is better than a refusal.
    Probing,
    /// Nor is anybody probed: who was ejected for failing clients is better than nobody.
    Out,
}

impl Level {
    fn admits(self, tier: Tier, standing: Standing) -> bool {
        match self {
            Self::Local => tier == Tier::Local && standing == Standing::Serving,
            Self::Primary => tier != Tier::Backup && standing == Standing::Serving,
            Self::Panic => tier != Tier::Backup && standing != Standing::Draining,
            Self::Backup => tier == Tier::Backup && standing == Standing::Serving,
            Self::Probing => matches!(standing, Standing::Probing | Standing::OnTrial),
            Self::Out => standing == Standing::Out,
        }
    }
}

impl Balancer {
    /// `circle` holds whose turn it is over the servers, or over [`Balancer::places`] for [`Algorithm::Weighted`].
    pub fn new(settings: Settings, seats: Vec<Seat>, circle: Arc<RoundRobin>) -> Self {
        let weights = || seats.iter().map(|seat| seat.weight.clamp(1, WEIGHT_MAX)).collect::<Vec<_>>();
        Self {
            settings,
            schedule: (settings.algorithm == Algorithm::Weighted).then(|| Schedule::new(&weights())),
            has_local: seats.iter().any(|seat| seat.tier == Tier::Local),
            has_backup: seats.iter().any(|seat| seat.tier == Tier::Backup),
            seats: seats.into(),
            circle,
            cursor: AtomicUsize::new(0),
            has_trials: AtomicBool::new(false),
            ejecting: Mutex::new(()),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// How many places the circle has.
    pub fn places(&self) -> usize {
        self.schedule.as_ref().map_or(self.seats.len(), Schedule::places)
    }

    /// The next server; its place is taken.
    ///
    /// # Errors
    /// [`NotPicked`]; nothing is taken then.
    pub fn pick<M: AsMember>(&self, members: &[M], ask: &Ask<'_>) -> Result<Picked, NotPicked> {
        debug_assert_eq!(members.len(), self.seats.len());
        // A claim fails only if another worker has just taken the last place: then all is looked at again.
        for _ in 0..=members.len() {
            let picked = match self.on_trial(members, ask) {
                Some(picked) => return Ok(picked),
                None => self.choose(members, ask)?,
            };
            if self.claim(members[picked.index].as_member()) {
                return Ok(picked);
            }
        }
        Err(NotPicked::Full)
    }

    /// The request that [`Balancer::pick`] found this server for has ended, or was not sent.
    pub fn release(&self, member: &Member) {
        if self.counts_load() {
            member.release();
        }
    }

    /// The verdict on a trial; `None`: there is none, and another request may try.
    pub fn end_trial(&self, member: &Member, ok: Option<bool>, now: Millis) -> Option<Change> {
        member.end_trial(ok, &self.settings.outlier.unwrap_or_default(), now)
    }

    /// A server failed a request. The move, if that ejected it.
    pub fn failed<M: AsMember>(&self, members: &[M], index: usize, now: Millis) -> Option<Change> {
        let policy = self.settings.outlier.as_ref()?;
        let is_out = members[index].as_member().failed(policy.errors);
        if is_out { self.eject(members, index, policy, now) } else { None }
    }

    /// Looks at the clock: who was ejected long enough is on trial from now on. To be called several times a second.
    pub fn tick<M: AsMember>(&self, members: &[M], now: Millis, mut told: impl FnMut(usize, Change)) {
        let mut has_trials = false;
        for (index, member) in members.iter().enumerate() {
            let member = member.as_member();
            if matches!(member.standing(), Standing::Out | Standing::Ejected | Standing::Probing)
                && let Some(change) = member.on_time(now)
            {
                told(index, change);
            }
            has_trials |= member.standing() == Standing::OnTrial;
        }
        self.has_trials.store(has_trials, Relaxed);
    }

    /// Judges what the servers did over a while, each by its place.
    pub fn judge<M: AsMember>(
        &self,
        members: &[M],
        windows: &[Window],
        now: Millis,
        mut told: impl FnMut(usize, Change),
    ) {
        let Some(policy) = &self.settings.outlier else { return };
        for index in outlier::judge(windows, policy) {
            if let Some(change) = self.eject(members, index, policy, now) {
                told(index, change);
            }
        }
    }

    /// Whether another server serves than those that were tried: worth asking a second one.
    pub fn has_other<M: AsMember>(&self, members: &[M], tried: &[usize]) -> bool {
        (0..members.len()).any(|index| {
            !tried.contains(&index)
                && members[index].as_member().state() == State::Serving
                && !self.is_full(members, index)
        })
    }

    fn eject<M: AsMember>(
        &self,
        members: &[M],
        index: usize,
        policy: &outlier::Policy,
        now: Millis,
    ) -> Option<Change> {
        let _held = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if members[index].as_member().state() != State::Serving {
            return None;
        }
        let out = members.iter().filter(|member| member.as_member().state() != State::Serving).count();
        if !may_eject(members.len(), out, policy.share) {
            return None;
        }
        members[index].as_member().stand_out(policy, now)
    }

    fn on_trial<M: AsMember>(&self, members: &[M], ask: &Ask<'_>) -> Option<Picked> {
        if !self.has_trials.load(Relaxed) {
            return None;
        }
        let patience = self.settings.outlier.unwrap_or_default().base;
        let index = (0..members.len()).find(|index| {
            let member = members[*index].as_member();
            if ask.tried.contains(index) || self.is_full(members, *index) || !self.claim(member) {
                return false;
            }
            let begins = member.begin_trial(ask.is_repeatable, patience, ask.now);
            if !begins {
                self.release(member);
            }
            begins
        })?;
        Some(Picked { index, is_trial: true, is_panic: false })
    }

    fn choose<M: AsMember>(&self, members: &[M], ask: &Ask<'_>) -> Result<Picked, NotPicked> {
        let picked = |index| Picked { index, is_trial: false, is_panic: false };
        if let Some(index) = ask.stuck_to.filter(|index| !ask.tried.contains(index) && *index < members.len())
            && members[index].as_member().standing() == Standing::Serving
            && !self.is_full(members, index)
        {
            return Ok(picked(index));
        }
        let is_panic = self.is_panic(members);
        let first = match is_panic {
            true => [None, Some(Level::Panic)],
            false => [self.has_local.then_some(Level::Local), Some(Level::Primary)],
        };
        let backup = self.has_backup.then_some(Level::Backup);
        let last = [backup, Some(Level::Probing), Some(Level::Out)];
        for level in first.into_iter().chain(last).flatten() {
            let admits =
                |index: usize| level.admits(self.seats[index].tier, members[index].as_member().standing());
            let fits = |index: usize| admits(index) && !self.is_full(members, index);
            let fresh = match ask.tried {
                [] => None,
                tried => self.next(members, ask, |index| !tried.contains(&index) && fits(index)),
            };
            // All of the same node are among those of the next level, too, where who was tried or is full is looked at.
            if level == Level::Local && fresh.is_none() && !ask.tried.is_empty() {
                continue;
            }
            if let Some(index) = fresh.or_else(|| self.next(members, ask, fits)) {
                return Ok(Picked { is_panic: level == Level::Panic, ..picked(index) });
            }
            // A backup is for servers that fail, not for full ones.
            if level != Level::Local && self.settings.in_flight > 0 && (0..members.len()).any(admits) {
                return Err(NotPicked::Full);
            }
        }
        Err(NotPicked::Nobody)
    }

    /// The algorithm, among those that fit.
    fn next<M: AsMember>(&self, members: &[M], ask: &Ask<'_>, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let len = members.len();
        let period = self.settings.slow_start;
        let share = |index: usize| members[index].as_member().share(period, ask.now);
        let weight = |index: usize| if fits(index) { self.seats[index].weight * share(index) } else { 0 };
        let load = |index: usize| members[index].as_member().load();
        match self.settings.algorithm {
            Algorithm::RoundRobin | Algorithm::Weighted => {
                let owner = |slot: usize| self.schedule.as_ref().map_or(slot, |s| s.owner(slot));
                let turn = |fits: &dyn Fn(usize) -> bool| {
                    self.circle.pick(self.places(), |slot| fits(owner(slot))).map(owner)
                };
                if period.is_zero() {
                    return turn(&fits);
                }
                let warm =
                    |index: usize| fits(index) && slow_start::takes_turn(share(index), index, ask.random);
                // If all are new, their turns are as good as any.
                turn(&warm).or_else(|| turn(&fits))
            }
            Algorithm::LeastConnections => {
                least_connections::pick(len, self.cursor.fetch_add(1, Relaxed), weight, load)
            }
            Algorithm::TwoChoices => {
                let cost = |index: usize| {
                    let member = members[index].as_member();
                    member.latency().cost(member.load(), ask.now) / f64::from(weight(index).max(1))
                };
                two_choices::pick(len, weight, cost, ask.random)
            }
            Algorithm::Hash => hash::pick(len, ask.key, |index| self.seats[index].identity, weight, load),
        }
    }

    /// Whether loads are counted at all: they cost two shared writes a request.
    fn counts_load(&self) -> bool {
        self.settings.in_flight > 0
            || !matches!(self.settings.algorithm, Algorithm::RoundRobin | Algorithm::Weighted)
    }

    fn claim(&self, member: &Member) -> bool {
        !self.counts_load() || member.claim(self.settings.in_flight)
    }

    fn is_full<M: AsMember>(&self, members: &[M], index: usize) -> bool {
        self.settings.in_flight > 0 && members[index].as_member().load() >= self.settings.in_flight
    }

    fn is_panic<M: AsMember>(&self, members: &[M]) -> bool {
        if self.settings.panic == Percent::ZERO {
            return false;
        }
        let primaries = || (0..members.len()).filter(|index| self.seats[*index].tier != Tier::Backup);
        let serving =
            primaries().filter(|index| members[*index].as_member().state() == State::Serving).count();
        serving * 100 < primaries().count() * usize::from(self.settings.panic.get())
    }
}

#[cfg(test)]
mod tests;
