//! What a route changes of what passes through it, in the form that workers read; and where its redirect leads.
//!
//! Pure. Compiled once for each configuration, so that a request without rules pays nothing.

use std::time::Duration;

use tiebeam_topology::{EdgeLimits, FieldEdits, Redirect, Route, SiteRules, Target};

use crate::codec::{Edits, canonical, replaced_prefix, taken, with_path, without_slashes};
use crate::config::Pages;
use crate::pages::Page;

pub struct Rules {
    /// The route's own path, canonical.
    prefix: Vec<u8>,
    replace_prefix: Option<String>,
    request: Edits,
    pub response: Edits,
    pub body_bytes: u64,
    pub body_rate: u64,
    pub response_time: Duration,
    pub maintenance: Option<Page>,
    pub redirect: Option<Redirect>,
}

impl Rules {
    pub fn compile(route: &Route, site: &SiteRules, limits: &EdgeLimits, pages: &Pages) -> Self {
        let rules = &route.rules;
        Self {
            prefix: canonical(route.path.as_bytes()).into_owned(),
            replace_prefix: rules.replace_prefix.clone(),
            request: edits(&rules.request_headers).after(&edits(&site.request_headers)),
            response: edits(&rules.response_headers).after(&edits(&site.response_headers)),
            body_bytes: rules.body_bytes.unwrap_or(limits.body_bytes),
            body_rate: rules.body_rate.unwrap_or(limits.body_rate),
            response_time: rules.response_time.unwrap_or(limits.response_time),
            maintenance: rules
                .maintenance
                .as_ref()
                .map(|path| pages.get(path).cloned().unwrap_or_else(Page::maintenance)),
            redirect: match &route.to {
                Target::Redirect(redirect) => Some(redirect.clone()),
                Target::Pool(_) | Target::Files(_) => None,
            },
        }
    }

    /// The head as servers are sent it, if that is another than `head`; `path` is where its path lies.
    pub fn rewritten(&self, head: &[u8], path: std::ops::Range<usize>) -> Option<Vec<u8>> {
        let old = &head[path.clone()];
        // `*` is no path, and is of no route's.
        let new = self.replace_prefix.as_ref().zip(taken(&self.prefix, old));
        let new = new.map(|(new, taken)| replaced_prefix(old, taken, new));
        if new.is_none() && self.request.is_empty() {
            return None;
        }
        let mut out = match new {
            Some(new) => with_path(head, path, &new),
            None => head.to_vec(),
        };
        self.request.apply(&mut out, 0);
        Some(out)
    }

    /// How many bytes of `path` are the route's own.
    pub fn taken(&self, path: &[u8]) -> usize {
        taken(&self.prefix, path).unwrap_or(0)
    }

    /// Where `target`, a path with its query, is sent by this route's redirect.
    pub fn location(&self, to: &str, target: &[u8]) -> String {
        // `OPTIONS *` is about the server.
        let target = if target == b"*" { "/".into() } else { String::from_utf8_lossy(target) };
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let rest = path.get(self.taken(path.as_bytes())..).unwrap_or_default();
        let rest = &rest[rest.len() - without_slashes(rest.as_bytes()).len()..];
        let is_plain = !to.contains(['{', '?', '#']);
        let mut location = match to.ends_with('/') && is_plain {
            true => format!("{to}{rest}"),
            false => to.replace("{rest}", rest).replace("{path}", path),
        };
        if !to.contains(['?', '#']) {
            location.push_str(query);
        }
        // Two slashes would be the name of a host (RFC 3986 section 4.2).
        match location.strip_prefix("//") {
            Some(after) => format!("/{}", after.trim_start_matches('/')),
            None => location,
        }
    }
}

fn edits(of: &FieldEdits) -> Edits {
    let set = of.set.iter().map(|(name, value)| (name.clone(), value.clone()));
    Edits::new(set.collect(), of.remove.clone())
}

impl Page {
    /// For a site whose own page is not there.
    pub fn maintenance() -> Self {
        let text = "<!doctype html><title>Back soon</title><p>This site is being worked on. Please try again shortly.</p>\n";
        Self { media_type: "text/html; charset=utf-8", bytes: text.as_bytes().into() }
    }
}

#[cfg(test)]
mod tests {
    use tiebeam_topology::RedirectStatus;

    use super::*;

    fn rules(path: &str, change: impl FnOnce(&mut Route)) -> Rules {
        let to = Redirect { to: "/".to_owned(), status: RedirectStatus::Found };
        let mut route = Route::new(path, Target::Redirect(to));
        change(&mut route);
        Rules::compile(&route, &SiteRules::default(), &EdgeLimits::default(), &Pages::new())
    }

    #[test]
    fn where_a_redirect_leads() {
        for (path, to, target, expected) in [
            ("/old/", "/new/", "/old/a/b?c=d", "/new/a/b?c=d"),
            ("/old/", "/new/", "/old/", "/new/"),
            ("/old", "/new/", "/old", "/new/"),
            ("/old", "/new/", "/old/a", "/new/a"),
            ("/old/", "/new.html", "/old/a?b", "/new.html?b"),
            ("/old.html", "/new.html", "/old.html", "/new.html"),
            ("/", "https://www.shop.example/", "/a?b", "https://www.shop.example/a?b"),
            ("/", "https://www.shop.example{path}", "/a//b?c", "https://www.shop.example/a//b?c"),
            ("/", "https://www.shop.example", "/a", "https://www.shop.example"),
            ("/docs/", "https://docs.example/v1/{rest}", "/docs/x/y", "https://docs.example/v1/x/y"),
            ("/s/", "/find?q={rest}", "/s/shoes?page=2", "/find?q=shoes"),
            ("/s/", "/all#{rest}", "/s/shoes", "/all#shoes"),
            ("/old/", "/new/", "//%6fld/a", "/new/a"),
            ("/old", "/new/", "/old%2fa", "/new/a"),
            ("/old", "/new/", "/;/old;x=%20/a;y", "/new/a;y"),
            // No client can make the name of a host of it.
            ("/old/", "/", "/old//evil.example/x", "/evil.example/x"),
            ("/old/", "/", "/old/%2F/%5cevil.example", "/evil.example"),
            ("/", "/{rest}", "///evil.example", "/evil.example"),
            ("/a", "/{path}", "/a/b", "/a/b"),
            ("/", "https://shop.example/{rest}", "//@evil.example", "https://shop.example/@evil.example"),
        ] {
            assert_eq!(rules(path, |_| {}).location(to, target.as_bytes()), expected, "{path} {to} {target}");
        }
    }

    #[test]
    fn what_a_server_is_sent() {
        let head = b"GET /api/x?y HTTP/1.1\r\nHost: a\r\n\r\n";
        let text = |rules: &Rules| rules.rewritten(head, 4..10).map(|head| String::from_utf8(head).unwrap());
        assert_eq!(text(&rules("/api/", |_| {})), None);
        let stripped = rules("/api/", |route| route.rules.replace_prefix = Some("/".to_owned()));
        assert_eq!(text(&stripped).as_deref(), Some("GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n"));
        let other = stripped.rewritten(b"GET //%61pi%2fx HTTP/1.1\r\n\r\n", 4..15).unwrap();
        assert_eq!(other, b"GET /x HTTP/1.1\r\n\r\n");
        assert_eq!(stripped.rewritten(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 8..9), None);
        let named = rules("/api/", |route| {
            route.rules.request_headers.set.insert("Host".to_owned(), "b".to_owned());
        });
        assert_eq!(text(&named).as_deref(), Some("GET /api/x?y HTTP/1.1\r\nHost: b\r\n\r\n"));
    }
}
