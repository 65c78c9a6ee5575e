//! Whom an instance runs as: decided from the file, the agent's own user, and the system's list of users.
//!
//! Called at each start, so that a user who is made later is found by the next try.

use std::fs;

use rustix::process::geteuid;

/// Whom the apps of an agent that runs as root run as, unless the file names a user.
const DEFAULT: &str = "nobody";

/// The system's users (passwd(5)).
const PASSWD: &str = "/etc/passwd";

/// Whom an instance becomes. Supplementary groups are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("{PASSWD} cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("there is no user {name:?} in {PASSWD}: make one, or name another as `user` of the app")]
    Unknown { name: String },
    #[error(
        "it is to run as {name:?}, and only root can become another user: start Tiebeam as root, or leave `user` out"
    )]
    NotRoot { name: String },
}

/// `None`: an instance stays who the agent is.
pub fn of_app(wanted: Option<&str>) -> Result<Option<User>, UserError> {
    let own = geteuid().as_raw();
    if wanted.is_none() && own != 0 {
        return Ok(None);
    }
    decide(wanted, own, &fs::read_to_string(PASSWD)?)
}

fn decide(wanted: Option<&str>, own: u32, passwd: &str) -> Result<Option<User>, UserError> {
    let name = match wanted {
        Some(name) => name,
        None if own == 0 => DEFAULT,
        None => return Ok(None),
    };
    let user = find(name, passwd).ok_or_else(|| UserError::Unknown { name: name.to_owned() })?;
    match user.uid == own {
        true => Ok(None),
        false if own == 0 => Ok(Some(user)),
        false => Err(UserError::NotRoot { name: name.to_owned() }),
    }
}

fn find(name: &str, passwd: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        fields.next().filter(|first| *first == name)?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gives_its_rights_away_and_others_keep_theirs() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nbroken:x\nshop:x:1001:1002::/srv:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
        let who = |wanted, own| match decide(wanted, own, passwd) {
            Ok(Some(user)) => format!("{} {} {}", user.name, user.uid, user.gid),
            Ok(None) => "stays".to_owned(),
            Err(e) => e.to_string(),
        };
        for (wanted, own, expected) in [
            (None, 0, "nobody 65534 65534"),
            (None, 1001, "stays"),
            (Some("shop"), 0, "shop 1001 1002"),
            (Some("shop"), 1001, "stays"),
            (Some("root"), 0, "stays"),
        ] {
            assert_eq!(who(wanted, own), expected, "{wanted:?} {own}");
        }
        assert!(who(Some("broken"), 0).contains("there is no user \"broken\""));
        assert!(who(Some("sho"), 0).contains("there is no user \"sho\""));
        assert!(who(Some("root"), 1001).contains("only root can become another user"));
    }
}
