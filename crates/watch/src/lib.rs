//! What is known of a cluster at one moment, as plain values: the [`View`], what is wrong in it ([`judge`]), how it
//! moved in the last minutes ([`Series`]), and the texts that people and scrapers read ([`status`], [`metrics`]).
//!
//! Nothing here opens a socket, reads a clock or keeps a task: the wiring fills a `View` and hands it on.

mod edge_status;
mod extra;
mod figures;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod heirs;
mod metrics;
mod series;
mod status;
mod verdict;
mod view;
pub mod words;

pub use edge_status::edge_status;
pub use extra::{Extra, Kind, Labels, Sample};
pub use figures::{ServerFigures, SiteView};
pub use heirs::{Waits, heirs};
pub use metrics::{CONTENT_TYPE, metrics};
pub use series::{SERIES_MAX, SERIES_SECONDS, Series, Table, name as series_name};
pub use status::{Paint, status};
pub use verdict::judge;
pub use view::*;
