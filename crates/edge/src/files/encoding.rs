//! Which content codings a client takes, in the order in which it is best served (RFC 9110 section 12.5.3).
//!
//! Pure. `identity` is what remains: a client that refuses even that is sent it all the same, as section 12.1 lets a
//! server do, for an answer is worth more than a 406.

/// A content coding that files are sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    Br,
    Zstd,
    Gzip,
}

impl Coding {
    /// Smallest first: where a client likes several equally, the first of these is sent.
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// As `Content-Encoding` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the name of a file in this coding ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    fn position(self) -> usize {
        self as usize
    }
}

/// The codings that a client likes at least as much as the plain file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    ranked: [Option<Coding>; 3],
}

impl Accepted {
    /// Of the value of `Accept-Encoding`, its lines joined by commas. What is malformed in it is not accepted.
    pub fn parse(value: &str) -> Self {
        let (mut by_coding, mut identity, mut any) = ([None; 3], None, None);
        for member in value.split(',') {
            let (name, weight) = member.split_once(';').map_or((member, None), |(n, w)| (n, Some(w)));
            let Some(weight) = weight.map_or(Some(1000), thousandths) else { continue };
            let name = name.trim();
            let coding = |c: &&Coding| name.eq_ignore_ascii_case(c.name());
            if name == "*" {
                any = Some(weight);
            } else if name.eq_ignore_ascii_case("identity") {
                identity = Some(weight);
            } else if name.eq_ignore_ascii_case("x-gzip") {
                by_coding[Coding::Gzip.position()].get_or_insert(weight);
            } else if let Some(coding) = Coding::ALL.iter().find(coding) {
                by_coding[coding.position()] = Some(weight);
            }
        }
        // Not named, it is acceptable, and liked less than whatever is.
        let least = identity.or(any).unwrap_or(0);
        let mut ranked = Coding::ALL
            .map(|coding| (coding, by_coding[coding.position()].or(any).unwrap_or(0)))
            .map(|(coding, weight)| (weight, (weight > 0 && weight >= least).then_some(coding)));
        // Stable: among equals the order of `ALL` stays.
        ranked.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        Self { ranked: ranked.map(|(_, coding)| coding) }
    }

    /// The one to be sent first if there is a choice.
    pub fn in_order(&self) -> impl Iterator<Item = Coding> {
        self.ranked.into_iter().flatten()
    }
}

/// `q=0.5` as 500; nothing if it is no weight (RFC 9110 section 12.4.2).
fn thousandths(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.trim().split_once('=')?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    if !name.eq_ignore_ascii_case("q") || !matches!(whole, "0" | "1") || !digits {
        return None;
    }
    let part = format!("{fraction:0<3}").parse::<u16>().ok()?;
    let sum = if whole == "1" { 1000 + part } else { part };
    (sum <= 1000).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_first() {
        for (value, expected) in [
            ("", ""),
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "br zstd gzip"),
            ("gzip;q=1.0, br;q=0.5", "gzip br"),
            ("gzip;q=0, br", "br"),
            ("GZIP ; Q=0.5", "gzip"),
            ("x-gzip", "gzip"),
            ("*", "br zstd gzip"),
            ("*;q=0", ""),
            ("*;q=0, gzip", "gzip"),
            ("br;q=0, *", "zstd gzip"),
            ("identity", ""),
            ("identity, gzip", "gzip"),
            ("identity;q=1, gzip;q=0.5", ""),
            ("identity;q=0.5, gzip;q=1", "gzip"),
            ("identity;q=0, gzip;q=0.001", "gzip"),
            ("identity;q=0", ""),
            ("*;q=0.5, gzip;q=0.4", "br zstd"),
            ("deflate, compress", ""),
            (" , gzip , ,", "gzip"),
            // What is no weight is no word for the coding.
            ("gzip;q=2", ""),
            ("gzip;q=1.001", ""),
            ("gzip;q=0.1234", ""),
            ("gzip;q=", ""),
            ("gzip;level=1", ""),
            ("gzip;q=-1", ""),
            ("gzip;q=.5", ""),
            ("gzip;q=1.", "gzip"),
            ("gzip;q=0.", ""),
            ("brotli", ""),
        ] {
            let names: Vec<&str> = Accepted::parse(value).in_order().map(Coding::name).collect();
            assert_eq!(names.join(" "), expected, "{value}");
        }
    }
}
