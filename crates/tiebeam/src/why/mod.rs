//! `tiebeam why`: one request's whole path, from the line that its edge wrote about it: who asked what, which servers were
//! tried and how each try ended, how long each step took, why it failed, and what to do next.
//!
//! It reads files of this machine only and changes nothing. `cli/why.rs` calls it.

mod find;
mod words;

pub use find::{Found, find};

use serde::Deserialize;

/// A line of the access log. What an older edge did not write is empty.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Line {
    pub time: String,
    pub id: String,
    pub edge: String,
    pub client: String,
    pub method: String,
    pub host: String,
    pub path: String,
    pub scheme: String,
    pub status: u16,
    pub bytes: u64,
    pub trace: Option<String>,
    pub received: Option<u64>,
    pub server: Option<String>,
    pub tries: u32,
    pub site: Option<String>,
    pub route: Option<String>,
    pub tried: Vec<Tried>,
    pub time_ms: Times,
    pub why: Option<String>,
    pub sample: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Tried {
    pub server: String,
    pub result: String,
    pub ms: f64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Times {
    pub total: f64,
    pub connect: f64,
    pub first_byte: f64,
}

/// The whole story, for people.
pub fn story(line: &Line) -> String {
    let mut rows: Vec<(&str, String)> = vec![("request", line.id.clone()), ("when", line.time.clone())];
    rows.push(("asked", asked(line)));
    rows.push(("client", format!("{} over {}", line.client, line.scheme)));
    rows.push(("edge", line.edge.clone()));
    rows.push(("site", place(line)));
    if let Some(trace) = &line.trace {
        rows.push(("trace", trace.clone()));
    }
    for (i, tried) in line.tried.iter().enumerate() {
        let what = words::outcome(&tried.result);
        let text = format!("{}. {}  after {}: {what}", i + 1, tried.server, ms(tried.ms));
        rows.push((if i == 0 { "tried" } else { "" }, text));
    }
    rows.push(("answered", answered(line)));
    rows.push(("steps", steps(line)));
    if let Some(why) = &line.why {
        let (meaning, next) = words::why(why);
        rows.push(("why", format!("{why}: {meaning}")));
        rows.push(("next", next.replace("SERVER", line.server.as_deref().unwrap_or("the server"))));
    }
    rows.iter().map(|(name, text)| format!("{name:<10}{text}\n")).collect()
}

fn asked(line: &Line) -> String {
    if line.method.is_empty() {
        return "nothing that could be read as a request".to_owned();
    }
    format!("{} {}://{}{}", line.method, line.scheme, line.host, line.path)
}

fn place(line: &Line) -> String {
    match (&line.site, &line.route) {
        (Some(site), Some(route)) => format!("{site}, route {route}"),
        (Some(site), None) => format!("{site}, none of its routes"),
        (None, _) if line.server.is_some() => "not in this line: an older edge wrote it".to_owned(),
        (None, _) => "none was asked".to_owned(),
    }
}

/// A server answered if the last one that was tried is not among those that failed.
fn answered(line: &Line) -> String {
    let status = match line.status {
        0 => "the client was told nothing".to_owned(),
        status => format!("{status}, {} bytes", line.bytes),
    };
    let has_answer = line.tries as usize > line.tried.len() && line.status != 0;
    match &line.server {
        Some(server) if has_answer && line.tries > 1 => {
            format!("{status}, by {server} at the {}. try", line.tries)
        }
        Some(server) if has_answer => format!("{status}, by {server} at once"),
        Some(_) if line.status == 0 => status,
        Some(_) => format!("{status}, by the edge: no server did"),
        None if line.status == 0 => status,
        None => format!("{status}, by the edge itself"),
    }
}

fn steps(line: &Line) -> String {
    let t = line.time_ms;
    if line.server.is_none() {
        return format!("{} in all", ms(t.total));
    }
    let rest = (t.total - t.connect - t.first_byte - line.tried.iter().map(|t| t.ms).sum::<f64>()).max(0.0);
    format!(
        "connecting {}, waiting for the first byte {}, everything else {}: {} in all",
        ms(t.connect),
        ms(t.first_byte),
        ms(rest),
        ms(t.total)
    )
}

fn ms(value: f64) -> String {
    if value < 10_000.0 { format!("{value:.1} ms") } else { format!("{:.1} s", value / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> Line {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_request_that_failed() {
        let line = line(
            r#"{"time":"2026-11-26T14:13:20.123Z","id":"00ff00ff00ff00ff00ff00ff00ff00ff","edge":"a","client":"10.1.1.7",
            "method":"GET","host":"shop.example","path":"/cart","scheme":"https","status":502,"bytes":900,"server":"c/web.1",
            "tries":2,"site":"shop.example","route":"/","tried":[{"server":"b/web.1","result":"refused","ms":0.2},
            {"server":"c/web.1","result":"closed","ms":3.0}],"time_ms":{"total":3.9,"connect":0.5,"first_byte":0.0},
            "why":"server_closed"}"#,
        );
        let said = story(&line);
        for part in [
            "asked     GET https://shop.example/cart\n",
            "site      shop.example, route /\n",
            "tried     1. b/web.1  after 0.2 ms: nobody listens at its address\n          2. c/web.1  after 3.0 ms: it closed",
            "answered  502, 900 bytes, by the edge: no server did\n",
            "connecting 0.5 ms",
            "why       server_closed: ",
            "next      look at what c/web.1 ",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
    }

    #[test]
    fn requests_that_went_well() {
        let first = line(r#"{"id":"a","method":"GET","status":200,"bytes":5,"server":"s0","tries":1}"#);
        assert!(story(&first).contains("answered  200, 5 bytes, by s0 at once"));
        let second = line(
            r#"{"id":"a","method":"GET","status":200,"bytes":5,"server":"s1","tries":2,"tried":[{"server":"s0","result":"refused","ms":1.0}]}"#,
        );
        assert!(story(&second).contains("by s1 at the 2. try"));
        let file = line(r#"{"id":"a","method":"GET","status":404,"bytes":5,"site":"*","why":"no_route"}"#);
        assert!(story(&file).contains("by the edge itself") && story(&file).contains("none of its routes"));
        let none = line(r#"{"id":"a","status":0,"why":"client_gone"}"#);
        assert!(story(&none).contains("answered  the client was told nothing"));
        assert!(story(&none).contains("asked     nothing that could be read"));
    }
}
