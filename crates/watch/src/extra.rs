//! Families of metrics of the caller's own, written with those of the view: what a node counts and nobody else needs to
//! know. Values without behaviour; [`crate::metrics`] writes them.

/// Pairs of a label's name and its value.
pub type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its samples are named `…_total`; the name is given without it.
    Counter,
    Gauge,
    /// Of times; its name is given without `_seconds`.
    Seconds,
}

/// One value of a family.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    Number(u64),
    /// `counts[i]` is what took at most `bounds_ms[i]`, the last one all that took longer.
    Times {
        bounds_ms: &'static [f64],
        counts: Vec<u64>,
        sum_ms: f64,
    },
}

#[derive(Clone, Debug)]
pub struct Extra {
    /// Without `tiebeam_`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// By their labels, besides `node`. No two with the same.
    pub samples: Vec<(Labels, Sample)>,
}

impl Extra {
    /// One counter.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: Kind::Counter, samples: vec![(Vec::new(), Sample::Number(value))] }
    }

    /// One gauge.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { kind: Kind::Gauge, ..Self::counter(name, help, value) }
    }

    /// One counter for each value of a label.
    pub fn counters<N: Into<String>>(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        samples: impl IntoIterator<Item = (N, u64)>,
    ) -> Self {
        let one = |(of, n): (N, u64)| (vec![(label, of.into())], Sample::Number(n));
        Self { name, help, kind: Kind::Counter, samples: samples.into_iter().map(one).collect() }
    }
}
