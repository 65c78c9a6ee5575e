//! `tiebeam schema`: the JSON Schema of the file, for editors.

use std::process::ExitCode;

pub fn run() -> anyhow::Result<ExitCode> {
    super::say(serde_json::to_string_pretty(&tiebeam_topology::schema())?);
    Ok(ExitCode::SUCCESS)
}
