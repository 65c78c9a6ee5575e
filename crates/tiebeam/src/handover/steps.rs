//! What the old process of a handover does next: one table of (state, event, next state, actions), without clock or I/O.
//! [`super::old`] finds the events and does the actions.

/// How far the handover is, seen from the old process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The new process checks what it can; nothing has changed.
    Starting,
    /// It is ready, and this one lets go of what only one of them can have.
    LettingGo,
    /// The node is the new one's; this one's edge serves until that does.
    Given,
    /// The new one serves; this one finishes what runs.
    Draining,
    /// The node was told to end while it was between the two: both end.
    Ending,
    /// The handover is over, one way or another.
    Over(End),
}

/// How a handover ends, for the old process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on as if it had not been asked.
    Stays,
    /// It was told to end, and still has everything.
    Stops,
    /// It has nothing more to do: what it had has ended or is the new one's.
    Leaves,
    /// The same, but nobody serves any more: whoever starts daemons must start one.
    Fails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The new process says so.
    Ready,
    /// The new process has ended, or has closed its end of the link.
    Gone,
    /// The time of the state is over.
    TimeUp,
    /// All that only one of them can have is free.
    LetGo,
    /// The new process says so.
    Serves,
    /// SIGTERM or SIGINT has come.
    Told,
    /// Nothing runs here any more.
    Drained,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    LetGo,
    /// Say that the node is the new one's.
    Give,
    /// Kill the new process.
    Kill,
    /// Tell the new process to end, as this one was told.
    PassOn,
    /// Say to whoever asked, and to the init system, who serves now.
    TellDone,
    /// Say to whoever asked that nothing has changed, and why.
    TellRefused,
    /// Say to whoever asked that it went wrong.
    TellFailed,
    /// Let what runs end in its own time.
    Drain,
    /// Give what runs no more time than at a stop.
    Hurry,
}

/// The table. What is not in it cannot happen, and changes nothing.
pub fn next(state: State, event: Event) -> (State, &'static [Action]) {
    use Action::{Drain, Give, Hurry, Kill, PassOn, TellDone, TellFailed, TellRefused};
    match (state, event) {
        (State::Starting, Event::Ready) => (State::LettingGo, &[Action::LetGo]),
        (State::Starting, Event::Gone | Event::TimeUp) => (State::Over(End::Stays), &[Kill, TellRefused]),
        (State::Starting, Event::Told) => (State::Over(End::Stops), &[Kill, TellRefused]),
        // Letting go is done in a bounded time; only then is heard what came meanwhile.
        (State::LettingGo, Event::LetGo) => (State::Given, &[Give]),
        (State::Given, Event::Serves) => (State::Draining, &[TellDone, Drain]),
        // The ledger and PostgreSQL cannot be taken back: a daemon that starts anew finds all of it.
        (State::Given, Event::Gone | Event::TimeUp) => (State::Over(End::Fails), &[Kill, TellFailed, Hurry]),
        // Who tells a node to end knows only this process of it. It waits, so that the other one is not killed with it.
        (State::Given, Event::Told) => (State::Ending, &[PassOn, TellFailed, Hurry]),
        (State::Ending, Event::Gone) => (State::Over(End::Leaves), &[]),
        // What does not end is killed, as an init system would.
        (State::Ending, Event::TimeUp) => (State::Over(End::Leaves), &[Kill]),
        // The node itself ends: nobody is left whose connections this one could wait for.
        (State::Draining, Event::Gone | Event::Told) => (State::Draining, &[Hurry]),
        (State::Draining, Event::Drained) => (State::Over(End::Leaves), &[]),
        (state, _) => (state, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] =
        [State::Starting, State::LettingGo, State::Given, State::Draining, State::Ending];
    const EVENTS: [Event; 7] =
        [Event::Ready, Event::Gone, Event::TimeUp, Event::LetGo, Event::Serves, Event::Told, Event::Drained];

    fn run(events: &[Event]) -> (State, Vec<Action>) {
        let mut actions = Vec::new();
        let state = events.iter().fold(State::Starting, |state, event| {
            let (next, more) = next(state, *event);
            actions.extend(more);
            next
        });
        (state, actions)
    }

    #[test]
    fn the_ways_through() {
        use Action::*;
        for (events, state, actions) in [
            (
                &[Event::Ready, Event::LetGo, Event::Serves, Event::Drained][..],
                State::Over(End::Leaves),
                &[LetGo, Give, TellDone, Drain][..],
            ),
            (&[Event::Gone], State::Over(End::Stays), &[Kill, TellRefused]),
            (&[Event::TimeUp], State::Over(End::Stays), &[Kill, TellRefused]),
            (&[Event::Told], State::Over(End::Stops), &[Kill, TellRefused]),
            (
                &[Event::Ready, Event::LetGo, Event::Gone],
                State::Over(End::Fails),
                &[LetGo, Give, Kill, TellFailed, Hurry],
            ),
            (
                &[Event::Ready, Event::LetGo, Event::TimeUp],
                State::Over(End::Fails),
                &[LetGo, Give, Kill, TellFailed, Hurry],
            ),
            (
                &[Event::Ready, Event::LetGo, Event::Told, Event::Serves, Event::Drained, Event::Gone],
                State::Over(End::Leaves),
                &[LetGo, Give, PassOn, TellFailed, Hurry],
            ),
            (
                &[Event::Ready, Event::LetGo, Event::Told, Event::TimeUp],
                State::Over(End::Leaves),
                &[LetGo, Give, PassOn, TellFailed, Hurry, Kill],
            ),
            (
                &[Event::Ready, Event::LetGo, Event::Serves, Event::Gone, Event::Drained],
                State::Over(End::Leaves),
                &[LetGo, Give, TellDone, Drain, Hurry],
            ),
        ] {
            assert_eq!(run(events), (state, actions.to_vec()), "{events:?}");
        }
    }

    #[test]
    fn nothing_is_given_that_was_not_let_go_and_who_asked_is_answered_once() {
        // All sequences of five events.
        for number in 0..EVENTS.len().pow(5) {
            let events: Vec<Event> =
                (0..5).map(|i| EVENTS[number / EVENTS.len().pow(i) % EVENTS.len()]).collect();
            let (state, actions) = run(&events);
            let at = |wanted: Action| actions.iter().position(|action| *action == wanted);
            assert!(at(Action::Give).is_none_or(|give| at(Action::LetGo).is_some_and(|free| free < give)));
            // Never killed once it serves.
            assert!(at(Action::TellDone).is_none() || at(Action::Kill).is_none(), "{events:?}");
            let tells = [Action::TellDone, Action::TellRefused, Action::TellFailed];
            let told = actions.iter().filter(|action| tells.contains(action)).count();
            let is_answered = matches!(state, State::Over(_) | State::Draining | State::Ending);
            assert_eq!(told, usize::from(is_answered), "{events:?}");
        }
    }

    #[test]
    fn what_is_over_stays_over() {
        for state in [End::Stays, End::Stops, End::Leaves, End::Fails].map(State::Over) {
            for event in EVENTS {
                assert_eq!(next(state, event), (state, &[][..]));
            }
        }
        // Nothing leads back.
        let order = |state| STATES.iter().position(|s| *s == state).unwrap_or(STATES.len());
        for (state, event) in STATES.into_iter().flat_map(|s| EVENTS.map(|e| (s, e))) {
            assert!(order(next(state, event).0) >= order(state));
        }
    }
}
