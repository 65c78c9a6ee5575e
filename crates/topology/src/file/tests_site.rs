//! What right sites and routes become.

use std::path::Path;
use std::time::Duration;

use crate::{Cluster, Redirect, RedirectStatus, StatusPattern, Target};

const HEAD: &str =
    "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n[pool.web]\nservers = [\"10.0.0.9:3000\"]\n";

fn site(text: &str) -> crate::Site {
    let text = format!("{HEAD}[site.a]\n{text}");
    let mut cluster = Cluster::parse("tiebeam.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    cluster.rooted(Path::new("/etc/tiebeam"));
    cluster.sites.into_values().next().unwrap()
}

#[test]
fn the_example_of_the_documents() {
    let page = include_str!("../../../../docs/routing.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let text = format!("{HEAD}[pool.api]\nservers = [\"10.0.0.8:3000\"]\n{example}");
    let cluster = Cluster::parse("routing.md", &text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((cluster.notes.as_slice(), cluster.sites.len()), (&[][..], 1));
}

#[test]
fn redirects() {
    let site = site(
        "routes = [\n{ path = \"/old/\", redirect = \"/new/\", status = 308 },\n\
         { path = \"/a\", redirect = \"https://b.example:8443{path}\" },\n\
         { path = \"/a/b\", redirect = \"/a/{rest}\", status = 301 },\n\
         { path = \"/\", pool = \"web\" },\n]\n",
    );
    let all: Vec<_> = site.routes.iter().map(|route| (route.path.as_str(), route.to.clone())).collect();
    let to = |to: &str, status| Target::Redirect(Redirect { to: to.to_owned(), status });
    assert_eq!(
        all,
        [
            ("/old/", to("/new/", RedirectStatus::Permanent)),
            ("/a/b", to("/a/{rest}", RedirectStatus::Moved)),
            ("/a", to("https://b.example:8443{path}", RedirectStatus::Temporary)),
            ("/", Target::Pool("web".parse().unwrap())),
        ]
    );
}

#[test]
fn what_a_route_changes() {
    let site = site(
        "routes = [\n{ path = \"/api/\", pool = \"web\", strip_prefix = true, body_bytes = 1000, body_rate = 0, response_time = \"2m\",\n\
         request_headers = { set = { Host = \"api.internal\" }, remove = [\"Cookie\"] }, maintenance = \"later.html\" },\n\
         { path = \"/v1\", pool = \"web\", replace_prefix = \"/v2\" },\n\
         { path = \"/\", files = \"public\", response_headers = { set = { Cache-Control = \"max-age=60\" } } },\n]\n",
    );
    let [api, v1, files] = site.routes.as_slice() else { panic!("{:?}", site.routes) };
    assert_eq!(api.rules.replace_prefix.as_deref(), Some("/"));
    assert_eq!((api.rules.body_bytes, api.rules.body_rate), (Some(1000), Some(0)));
    assert_eq!(api.rules.response_time, Some(Duration::from_secs(120)));
    assert_eq!(api.rules.request_headers.set["Host"], "api.internal");
    assert_eq!(api.rules.request_headers.remove, ["Cookie"]);
    assert_eq!(api.rules.maintenance.as_deref(), Some(Path::new("/etc/tiebeam/later.html")));
    assert_eq!(v1.rules.replace_prefix.as_deref(), Some("/v2"));
    assert_eq!(files.rules.response_headers.set["Cache-Control"], "max-age=60");
    assert!(files.rules.request_headers.set.is_empty() && site.rules.errors.is_empty());
}

#[test]
fn what_a_site_changes() {
    let site = site(
        "routes = [{ path = \"/\", pool = \"web\" }]\nmaintenance = \"/srv/later.html\"\n\
         errors = { 502 = \"502.html\", \"5xx\" = \"error.html\", \"4xx\" = \"error.html\" }\n\
         [site.a.response_headers]\nremove = [\"Server\"]\n[site.a.response_headers.set]\nX-Frame-Options = \"DENY\"\n",
    );
    let errors: Vec<_> =
        site.rules.errors.iter().map(|(status, page)| format!("{status} {}", page.display())).collect();
    assert_eq!(
        errors,
        ["502 /etc/tiebeam/502.html", "4xx /etc/tiebeam/error.html", "5xx /etc/tiebeam/error.html"]
    );
    assert_eq!(site.rules.maintenance.as_deref(), Some(Path::new("/srv/later.html")));
    assert_eq!(site.rules.response_headers.remove, ["Server"]);
    assert_eq!(site.rules.response_headers.set["X-Frame-Options"], "DENY");
    let json = serde_json::to_value(&site).unwrap();
    assert_eq!(json["errors"]["5xx"], "/etc/tiebeam/error.html");
}

#[test]
fn statuses_that_have_a_page() {
    for (text, yes, no) in [("404", 404, 405), ("4xx", 499, 500), ("5xx", 500, 499)] {
        let pattern: StatusPattern = text.parse().unwrap();
        assert!(pattern.holds(yes) && !pattern.holds(no) && pattern.to_string() == text);
    }
    for bad in ["", "200", "399", "600", "3xx", "xx", "5x", "50", "5000", "+50", "4XX"] {
        assert!(bad.parse::<StatusPattern>().is_err(), "{bad}");
    }
}
