//! What is said about wrong files; and what the tests of right ones begin with.

use std::fmt::Write as _;

use super::*;
use crate::PROBLEMS_MAX;

pub(super) fn parsed(text: &str) -> Cluster {
    Cluster::parse("tiebeam.toml", text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

pub(super) fn notes(text: &str) -> Vec<String> {
    parsed(text).notes.iter().map(|note| format!("{} {}", note.line, note.text)).collect()
}

pub(super) const EDGE_ONLY: &str = "[node.a]\naddress = \"127.0.0.1\"\nroles = [\"edge\"]\n";

/// A file of nodes: their names, and `d` for those with a database.
pub(super) fn nodes(names: &str) -> String {
    let mut text = String::new();
    for (n, name) in names.split(' ').enumerate() {
        let (name, roles) = match name.strip_prefix('d') {
            Some(name) => (name, "\"database\""),
            None => (name, ""),
        };
        let _ = write!(text, "[node.{name}]\naddress = \"10.0.0.{}\"\nroles = [{roles}]\n", n + 1);
    }
    text
}

fn shown(text: &str) -> String {
    let problems = Cluster::parse("tiebeam.toml", text).map(|_| text).expect_err("a wrong file");
    let lines: Vec<String> = problems.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// One text file holds every rule's wrong file and the words about it.
#[test]
fn wrong_files() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/file/wrong.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let mut now = String::new();
    let mut cases = 0;
    for part in golden.split_inclusive("\n--- said\n") {
        let rest = part.find("--- file\n").filter(|_| part.ends_with("--- said\n"));
        let (before, case) = part.split_at(rest.unwrap_or(part.len()));
        let comments = before.lines().filter(|line| line.starts_with('#'));
        let comments: String = comments.fold(String::new(), |all, line| all + line + "\n");
        if !comments.is_empty() {
            let _ = write!(now, "{}{comments}", if now.is_empty() { "" } else { "\n" });
        }
        if case.is_empty() {
            continue;
        }
        cases += 1;
        let text = case.trim_start_matches("--- file\n").trim_end_matches("--- said\n");
        let Err(problems) = Cluster::parse("tiebeam.toml", text) else { panic!("accepted:\n{text}") };
        let _ = write!(now, "\n{case}");
        for p in problems.items() {
            let help = p.help.as_deref().unwrap_or("");
            let _ = writeln!(now, "{}:{} {} | {help}", p.line, p.column, p.message);
        }
    }
    assert!(cases > 50, "{cases} cases are read");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    } else {
        pretty(&golden, &now);
    }
}

/// Equal, or the first line that is not.
#[track_caller]
fn pretty(expected: &str, found: &str) {
    for (number, (a, b)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(a, b, "line {} of wrong.txt", number + 1);
    }
    assert_eq!(expected.lines().count(), found.lines().count());
}

#[test]
fn a_problem_is_shown_at_its_place() {
    let text = "[node.a]\naddress = \"10.0.0.1\"\nroles = [\"edge\"]\n\n[pool.web]\nservers = [\"10.0.0.9:3000\"]\n\talgoritm = \"round-robin\"\n";
    let expected = r#"error: unknown key `algoritm`
 --> tiebeam.toml:7:2
  |
7 |     algoritm = "round-robin"
  |     ^^^^^^^^
  = help: did you mean `algorithm`?"#;
    assert_eq!(shown(text), expected);
}

#[test]
fn all_problems_are_shown_in_the_order_of_the_file() {
    let expected = r#"error: `port` must be a port from 1 to 65535, not 70000
 --> tiebeam.toml:2:8
  |
2 | port = 70000
  |        ^^^^^
  = help: write a number within these bounds

error: `address` is missing
 --> tiebeam.toml:3:7
  |
3 | [node.b]
  |       ^
  = help: write `address` in [node.NAME]: the IP address by which the other nodes reach it; addresses such as 127.0.0.2 make a cluster on one machine"#;
    assert_eq!(shown("[ledger]\nport = 70000\n[node.b]\n"), expected);
    assert!(shown("").ends_with("roles = [\"edge\"]"), "{}", shown(""));
}

#[test]
fn broken_syntax_is_shown_alone() {
    let expected = r#"error: this is not TOML: unclosed table, expected `]`
 --> tiebeam.toml:1:8
  |
1 | [node.a
  |        ^
  = help: a section is `[name]` or `[kind.name]`; a key is `name = value`; text stands in "quotes""#;
    assert_eq!(shown("[node.a\ncolour = 1\n"), expected);
    let twice = shown("[node.a]\naddress = \"10.0.0.1\"\naddress = \"10.0.0.2\"\n[edgy]\n");
    assert!(
        twice.contains("`address` is written twice") && twice.contains("unknown section `edgy`"),
        "{twice}"
    );
}

#[test]
fn a_file_cannot_steer_the_terminal() {
    let raw = "# \u{1b}[31m\u{9b}2J \u{202e}\n\"\u{1b}]0;x\u{7}\" = \"\u{1b}[2J\"\r\n";
    let escaped = "\"\\u001b[2J\" = 1 # \u{202e}\u{9b}2J\r\n\"\\u202e\" = 2";
    for text in [raw, escaped] {
        let problems = Cluster::parse("a\u{1b}[1mb", text).unwrap_err();
        let fancy = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
        let mut rendered = problems.to_string();
        fancy.render_report(&mut rendered, &problems).unwrap();
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!rendered.contains(bad), "{rendered:?}");
        assert!(rendered.contains("a?[1mb:"), "{rendered}");
    }
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let text = format!("[node.a]\naddress = \"{}\" # {}\n", "1".repeat(500), "x".repeat(500));
    let middle = format!("x = [{} 'caret', {}]\n[x.y]\n", "'a',".repeat(300), "'b',".repeat(300));
    for text in [text, middle, format!("{}x = 1\n", " ".repeat(4000))] {
        for line in shown(&text).lines() {
            assert!(line.chars().count() < 300, "{line}");
            assert!(
                line.starts_with("error") || line.contains("help:") || line.chars().count() < 140,
                "{line}"
            );
        }
        assert!(shown(&text).contains('^'));
    }
}

#[test]
fn wide_letters_keep_the_caret_in_place() {
    let said = shown("[site.\"見\"]\n[node.a]\naddress = \"見る\" # 見\n\n");
    assert!(said.contains("\n3 | address = \"見る\" # 見\n  |           ^^^^^^\n"), "{said}");
}

#[test]
fn too_much_is_refused_unread() {
    let at_bound = format!("#{}", "x".repeat(FILE_MAX_BYTES - 1));
    assert!(shown(&at_bound).contains("no node"));
    assert!(shown(&format!("{at_bound}x")).contains("the file has 1048577 bytes; at most 1048576 are read"));
    assert!(shown(&format!("a{}", ".a".repeat(400_000))).contains("more than 1000 dots"));
    assert!(shown(&format!("a{} = 1", ".a".repeat(900))).starts_with("error: "));
    assert!(shown(&format!("a = {}", "[".repeat(500_000))).starts_with("error: "));
    assert!(shown(&format!("a = {}", "{a=".repeat(300_000))).starts_with("error: "));
}

/// Large files, each the worst for one rule: what grows faster than the file would not end in time.
#[test]
fn large_files_are_read_quickly() {
    let filled = |head: &str, piece: &dyn Fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        for n in 0.. {
            let next = piece(n);
            if text.len() + next.len() + tail.len() > FILE_MAX_BYTES / 4 {
                return text + tail;
            }
            text += &next;
        }
        text
    };
    let one_line = filled("x = [", &|_| "'',".to_owned(), "]\n");
    let unknown = filled("", &|n| format!("k{n}=1\n"), "");
    let nodes = filled("", &|n| format!("[node.n{n}]\naddress=\"127.{}.{}.1\"\n", n / 250, n % 250), "");
    let servers = filled("[pool.a]\nservers = [", &|_| "\"10.0.0.1:80\",\n".to_owned(), "]\n");
    let routes =
        filled("[site.a]\nroutes = [", &|n| format!("{{path=\"/{n}\",pool=\"b\"}},"), "]\n[pool.a]\n");
    let wrong = filled("[node.a]\nroles = [", &|_| "1,".to_owned(), "]\n");
    for text in [one_line, unknown, nodes, servers, routes, wrong] {
        assert!(shown(&text).starts_with("error: "));
    }
}

#[test]
fn beyond_a_bound_problems_are_only_counted() {
    let mut text = String::new();
    for n in 0..PROBLEMS_MAX * 6 {
        let _ = writeln!(text, "key{n} = 1");
    }
    let problems = Cluster::parse("tiebeam.toml", &text).unwrap_err();
    assert_eq!(problems.items().len(), PROBLEMS_MAX);
    assert_eq!(problems.count(), PROBLEMS_MAX * 6 + 1);
    assert!(problems.to_string().ends_with("and 251 more"), "{problems}");
    assert!(problems.items()[0].message.contains("`key0`"));
}
