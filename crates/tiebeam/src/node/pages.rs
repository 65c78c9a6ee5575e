//! The pages that sites and routes name, for errors and for maintenance: read whenever the file is.

use std::path::Path;

use tiebeam_edge::{Page, Pages};
use tiebeam_topology::Cluster;

use crate::cli::WrongUse;

/// Each page once. The first that cannot be used is told, with the site that names it.
pub fn load(cluster: &Cluster) -> Result<Pages, WrongUse> {
    let mut pages = Pages::new();
    for (host, site) in &cluster.sites {
        let of_routes = site.routes.iter().filter_map(|route| route.rules.maintenance.as_ref());
        for path in site.rules.errors.values().chain(&site.rules.maintenance).chain(of_routes) {
            if !pages.contains_key(path) {
                let page = Page::load(path).map_err(|error| wrong(host, path, &error))?;
                pages.insert(path.clone(), page);
            }
        }
    }
    Ok(pages)
}

fn wrong(host: &tiebeam_topology::HostPattern, path: &Path, error: &tiebeam_edge::PageError) -> WrongUse {
    WrongUse(format!("a page of site {host}, {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_there_is_told_with_its_site() {
        let text = "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[pool.web]\nservers = [\"10.0.0.9:3000\"]\n\
                    [site.\"shop.example\"]\nerrors = { 502 = \"502.html\", \"5xx\" = \"502.html\" }\n\
                    routes = [{ path = \"/\", pool = \"web\", maintenance = \"later.txt\" }]\n";
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::parse("tiebeam.toml", text).unwrap();
        cluster.rooted(folder.path());
        std::fs::write(folder.path().join("502.html"), "sorry").unwrap();
        let WrongUse(said) = load(&cluster).unwrap_err();
        assert!(
            said.starts_with("a page of site shop.example, /")
                && said.contains("later.txt: it cannot be read"),
            "{said}"
        );
        std::fs::write(folder.path().join("later.txt"), "later").unwrap();
        assert_eq!(load(&cluster).unwrap().len(), 2);
    }
}
