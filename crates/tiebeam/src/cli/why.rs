//! `tiebeam why REQUEST-ID`: a request's whole path, from the access log of this node. Exit 0: found; 1: not found.

use std::path::PathBuf;
use std::process::ExitCode;

use super::WrongUse;
use crate::why::{Found, find, story};

/// Of an id, so that it can hardly mean two requests.
const ID_DIGITS_MIN: usize = 8;
const ID_DIGITS: usize = 32;

#[derive(clap::Args)]
pub struct Arguments {
    /// As in `X-Request-Id` of the answer, or on its page; its first eight digits are enough
    id: String,
    /// The folder of the node that answered
    #[arg(long, default_value = "/var/lib/tiebeam")]
    data: PathBuf,
    /// The line of the access log as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let id = arguments.id.to_ascii_lowercase();
    let is_id = (ID_DIGITS_MIN..=ID_DIGITS).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_id {
        let text = "a request id has 32 hexadecimal digits, of which the first 8 are enough";
        return Err(WrongUse(text.into()).into());
    }
    match find(&arguments.data, &id)? {
        Found::Line(line) => {
            let text = if arguments.json { serde_json::to_string(&line)? } else { story(&line) };
            super::say(text.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Found::Nothing { looked, has_other_format } => {
            super::complain(format_args!("no request {id} in {}", listed(&arguments.data, &looked)));
            super::talk(hints(has_other_format, looked.is_empty()));
            Ok(ExitCode::from(1))
        }
    }
}

fn listed(data: &std::path::Path, looked: &[PathBuf]) -> String {
    match looked {
        [] => format!("{}: there is no access.log", data.display()),
        all => all.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}

fn hints(has_other_format: bool, is_empty: bool) -> String {
    let mut hints =
        vec!["only the edge that answered knows it: ask on the other nodes with the role edge, too"];
    if is_empty {
        hints.push("say with --data where the node keeps its files; with edge.access_log = \"off\" nothing is written");
    } else {
        hints.push(
            "a line may take a tenth of a second, and with edge.access_log_sample most requests have none",
        );
    }
    if has_other_format {
        hints.push("lines in the common format have no request id: set edge.access_log = \"json\"");
    }
    hints.join("\n")
}
