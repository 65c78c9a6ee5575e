//! Reads `requests.txt` and `responses.txt`: used by the codec's own tests, by those over sockets, and to compare the
//! edge with other proxies.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each of its users leaves something out")]

/// What an RFC wants of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    Accept,
    Refuse,
    /// Refused, or passed on without what is wrong with it. The edge refuses.
    Mend,
    /// Both are within its words.
    Either,
}

/// What stands above a group of cases.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub wants: Wants,
    /// The number of the RFC, and its section.
    pub source: String,
    /// What it says.
    pub text: String,
    /// Why the edge does otherwise, if it does.
    pub here: Option<String>,
}

/// One message and what must become of it.
#[derive(Clone)]
pub struct Case {
    pub line: usize,
    pub rule: std::rc::Rc<Rule>,
    /// Of a request, 200: it is accepted. Of an answer: what the client is told.
    pub status: u16,
    /// Of the fault; `-`: none.
    pub label: String,
    /// Its head is fine, its body is not.
    pub in_body: bool,
    /// An answer to HEAD.
    pub to_head: bool,
    /// As it stands in the file.
    pub text: String,
    pub bytes: Vec<u8>,
}

impl Case {
    pub fn is_accepted(&self) -> bool {
        self.label == "-"
    }
}

/// Of requests.
pub fn cases() -> Vec<Case> {
    read(include_str!("requests.txt"))
}

/// Of responses.
pub fn answers() -> Vec<Case> {
    read(include_str!("responses.txt"))
}

/// Inputs to begin fuzzing with, by the name of the property that they are for.
pub fn seeds(property: &str) -> Vec<Vec<u8>> {
    let (requests, answers) = (cases().into_iter(), answers().into_iter());
    match property {
        "request" => requests.map(|case| case.bytes).collect(),
        "response" => answers.map(|case| case.bytes).collect(),
        "chunked" => requests.chain(answers).filter_map(|case| chunked_body(&case.bytes)).collect(),
        "files" => requests.filter_map(|case| path(&case.bytes)).collect(),
        "forwarded" => FORWARDED.map(|f| format!("GET / HTTP/1.1\r\nHost: a\r\n{f}\r\n\r\n").into()).into(),
        "http2" => HTTP2.map(Into::into).into(),
        "proxy_protocol" => PROXY_PROTOCOL.map(unescape).into(),
        "ranges" => RANGES.map(Into::into).into(),
        _ => Vec::new(),
    }
}

/// Heads of HTTP/2, as text.
const HTTP2: [&str; 12] = [
    "GET /a?b shop.example\naccept: */*\ncookie: a=1\ncookie: b=2",
    "POST / a:8\ncontent-length: 3\n\nabc",
    "PUT / a\n\nabc",
    "OPTIONS * a\nte: trailers",
    "GET / \nhost: a",
    "GET / a\nhost: b",
    "GET / a\nexpect: 100-continue\nx-forwarded-for: 6.6.6.6",
    "CONNECT / a",
    "HEAD /%2e%2e/ user@a",
    "200\ncontent-type: text/plain\n\n",
    "204\ncontent-length: 0",
    "103\nlink: </a>",
];

/// Values of `Range`.
const RANGES: [&str; 8] = [
    "bytes=0-3",
    "bytes=4-",
    "bytes=-3",
    "bytes=0-0, 2-3 ,, 900-99999999999999999999",
    "BYTES = 0-1",
    "bytes=3-1",
    "lines=1-2",
    "bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-",
];

/// What proxies say of those they forward for.
const FORWARDED: [&str; 8] = [
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-For: 6.6.6.6, [2001:db8::1]:4711, 10.0.0.2\r\nX-Forwarded-For: 10.0.0.3",
    "X-Forwarded-For: unknown, 10.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a:8",
    "Forwarded: for=192.0.2.1",
    "Forwarded: For=\"[2001:db8::1]:4711\";Proto=https;host=\"a:8\";by=10.0.0.1, for=10.0.0.2",
    "Forwarded: for=_hidden, for=\"a\\\"b\";secret=\"x,y;z\"\r\nForwarded: for=10.0.0.2",
    "Forwarded: ,, proto=http;;for=10.0.0.9 ,",
    "Forwarded: for=\"",
];

/// Headers of the PROXY protocol, both versions, escaped as the corpora are.
const PROXY_PROTOCOL: [&str; 8] = [
    "PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\\r\\nGET",
    "PROXY TCP6 2001:db8::1 ::1 65535 0\\r\\n",
    "PROXY UNKNOWN a b c\\r\\n",
    "PROXY TCP4 192.0.2.1 10.0.0.1 04711 80\\r\\n",
    "\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11\\0\\x0c\\xc0\\0\\x02\\x01\\x0a\\0\\0\\x01\\x12\\x67\\0\\x50GET",
    "\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x21\\0\\x27{a*16}{b*16}1234\\x04\\0\\0",
    "\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x20\\0\\0\\0",
    "\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x31\\xff\\xff",
];

fn chunked_body(message: &[u8]) -> Option<Vec<u8>> {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let is_chunked = message[..end].windows(7).any(|w| w.eq_ignore_ascii_case(b"chunked"));
    (is_chunked && end < message.len()).then(|| message[end..].to_vec())
}

fn path(request: &[u8]) -> Option<Vec<u8>> {
    let mut words = request.splitn(3, |b| *b == b' ');
    let target = words.nth(1)?;
    let path = target.split(|b| *b == b'?').next()?;
    (path.starts_with(b"/") && path.len() < 100).then(|| path.to_vec())
}

fn read(text: &str) -> Vec<Case> {
    let (mut cases, mut rule) = (Vec::new(), None);
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.is_empty()) {
        match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((head, text)) => rule = Some(std::rc::Rc::new(heading(head, text))),
            None => cases.push(case(i + 1, rule.clone().expect("a heading above the first case"), line)),
        }
    }
    cases
}

fn heading(head: &str, text: &str) -> Rule {
    let (wants, source) = head.split_once(' ').expect("a word and a source");
    let wants = match wants {
        "accept" => Wants::Accept,
        "refuse" => Wants::Refuse,
        "mend" => Wants::Mend,
        "either" => Wants::Either,
        other => panic!("no RFC wants `{other}`"),
    };
    let (text, here) = match text.split_once(" Here: ") {
        Some((text, here)) => (text, Some(here.to_owned())),
        None => (text, None),
    };
    Rule { wants, source: source.to_owned(), text: text.to_owned(), here }
}

fn case(line: usize, rule: std::rc::Rc<Rule>, text: &str) -> Case {
    let (expected, text) = text.split_once(" | ").expect("a bar between the expectation and the bytes");
    let mut words: Vec<&str> = expected.split(' ').collect();
    let label = words.pop().expect("a name").to_owned();
    let status = words.pop().expect("a status").parse().unwrap();
    let (in_body, to_head) = match words[..] {
        [] => (false, false),
        ["body"] => (true, false),
        ["head"] => (false, true),
        _ => panic!("line {line}: no such words: {words:?}"),
    };
    Case { line, rule, status, label, in_body, to_head, text: text.to_owned(), bytes: unescape(text) }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '\\' => {
                let (byte, taken) = match rest.as_bytes()[0] {
                    b'r' => (b'\r', 1),
                    b'n' => (b'\n', 1),
                    b't' => (b'\t', 1),
                    b'0' => (0, 1),
                    b'\\' => (b'\\', 1),
                    b'x' => (u8::from_str_radix(&rest[1..3], 16).unwrap(), 3),
                    other => panic!("no such escape: {}", char::from(other)),
                };
                bytes.push(byte);
                rest = &rest[taken..];
            }
            '{' if rest.split_once('}').is_some_and(|(inner, _)| inner.contains('*')) => {
                let (inner, after) = rest.split_once('}').unwrap();
                let (what, times) = inner.rsplit_once('*').unwrap();
                bytes.extend(unescape(what).repeat(times.parse().unwrap()));
                rest = after;
            }
            other => bytes.extend(other.to_string().bytes()),
        }
    }
    bytes
}
