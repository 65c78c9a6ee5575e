//! The pure parts of the edge as they are, at the same paths as in their room, and what must hold for them.
#![allow(dead_code, unused_imports, reason = "each part also has what only the edge uses")]

use std::path::Path;
use std::{env, fs, io, process};

#[path = "../../crates/edge/src/codec/mod.rs"]
mod codec;
#[path = "../../crates/edge/tests/corpus/mod.rs"]
mod corpus;
#[path = "../../crates/edge/src/files"]
mod files {
    pub mod path;
    pub mod ranges;
}
#[path = "../../crates/edge/src/h2"]
mod h2 {
    pub mod translate;
}
#[path = "../../crates/edge/src/properties/mod.rs"]
mod properties;

#[path = "../../crates/edge/src/proxy_protocol.rs"]
mod proxy_protocol;

pub use properties::*;

/// Where to write what a property's fuzzing begins with, instead of fuzzing.
const SEEDS: &str = "TIEBEAM_FUZZ_SEEDS";

/// Called before a target runs: if it is asked for its seeds, it writes them and ends.
pub fn begin(property: &str) {
    let Some(folder) = env::var_os(SEEDS) else { return };
    if let Err(error) = write_seeds(Path::new(&folder), property) {
        eprintln!("the seeds of {property} could not be written: {error}");
        process::exit(1);
    }
    process::exit(0);
}

/// One message of the edge's tests a file.
fn write_seeds(folder: &Path, property: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, input) in corpus::seeds(property).into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), input)?;
    }
    Ok(())
}
