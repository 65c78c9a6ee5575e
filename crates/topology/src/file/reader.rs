//! One table of the file, read key by key: missing, wrong and unknown keys are reported at their place.
//!
//! A [`Reader`] knows its table's keys from the same [`Section`] that the JSON Schema is printed from, so the two
//! cannot disagree. It holds no rule about the meaning of a value: kinds and `check` do.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::{Choices, Kind, Named, Shape, Table, Tables};
use crate::problem::{Findings, quoted};

/// What is written about one key: in the schema, in messages, and for the reader.
pub(crate) struct Key<K> {
    pub name: &'static str,
    pub about: &'static str,
    pub need: Need,
    pub kind: K,
}

/// What holds when a key is not written.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    Required,
    /// A TOML value, read by the key's own kind.
    Default(&'static str),
    /// Without it: this.
    Optional(&'static str),
}

/// A key without the type of its value: all that the schema and the search for unknown keys need.
pub(crate) trait AnyKey: Sync {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn need(&self) -> Need;
    fn shape(&self) -> &dyn Shape;
}

impl<K: Shape + Sync> AnyKey for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn about(&self) -> &'static str {
        self.about
    }
    fn need(&self) -> Need {
        self.need
    }
    fn shape(&self) -> &dyn Shape {
        &self.kind
    }
}

/// A table of the file and all keys that it may have.
pub(crate) struct Section {
    /// As people write it: `[pool.NAME]`, or `health` for a table inside another.
    pub title: &'static str,
    pub about: &'static str,
    pub keys: &'static [&'static dyn AnyKey],
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub value: T,
    /// Of the value; of the section's name when the value is a default.
    pub span: Range<usize>,
    /// Of its key.
    pub key: Range<usize>,
    /// False for a default.
    pub written: bool,
}

pub(crate) struct Reader<'d> {
    pub section: &'static Section,
    /// Where to point when something is missing.
    pub header: Range<usize>,
    table: Option<&'d DeTable<'d>>,
    findings: &'d Findings<'d>,
}

impl<'d> Reader<'d> {
    /// Starts on a table, and reports the keys that its section does not have.
    pub fn new(
        section: &'static Section,
        header: Range<usize>,
        table: &'d DeTable<'d>,
        findings: &'d Findings<'d>,
    ) -> Self {
        let known = |name: &str| section.keys.iter().any(|key| key.name() == name);
        let mut unknown: Vec<_> = table.keys().filter(|name| !known(name.get_ref())).collect();
        unknown.sort_by_key(|name| name.span().start);
        for name in unknown {
            report_unknown(section, name, findings);
        }
        Self { section, header, table: Some(table), findings }
    }

    /// A section that the file leaves out: every key is as when it is not written.
    pub fn absent(section: &'static Section, header: Range<usize>, findings: &'d Findings<'d>) -> Self {
        Self { section, header, table: None, findings }
    }

    /// The value of a key that has a default: the default too, after a report, when what is written is wrong.
    pub fn get<K: Kind + Sync>(&self, key: &Key<K>) -> Located<K::Value> {
        self.find(key).unwrap_or_else(|| {
            let value = default(key)
                .expect("a key read by `get` has a default that reads: `tests::every_default_reads`");
            Located { value, span: self.header.clone(), key: self.header.clone(), written: false }
        })
    }

    /// The value of a key that is required or optional; nothing, after a report, when it is wrong or missing.
    pub fn find<K: Kind + Sync>(&self, key: &Key<K>) -> Option<Located<K::Value>> {
        let (name, value) = self.entry(key)?;
        let read = key.kind.read(&format!("`{}`", key.name), value, self.findings)?;
        Some(Located { value: read, span: value.span(), key: name.span(), written: true })
    }

    /// Whether a key is written, right or wrong; with the place of the key.
    pub fn written<K>(&self, key: &Key<K>) -> Option<Range<usize>> {
        Some(self.raw(key.name)?.0.span())
    }

    /// The table below a key.
    pub fn inner(&self, key: &Key<Table>) -> Option<Reader<'d>> {
        let (name, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Reader::new(key.kind.0, name.span(), table, self.findings)),
            _ => {
                wrong_type(&format!("`{}`", key.name), &key.kind, value, self.findings);
                None
            }
        }
    }

    /// The tables of an array.
    pub fn items(&self, key: &Key<Tables>) -> Option<Vec<Reader<'d>>> {
        let (_, value) = self.entry(key)?;
        let Some(array) = value.get_ref().as_array() else {
            wrong_type(&format!("`{}`", key.name), &key.kind, value, self.findings);
            return None;
        };
        let mut readers = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    readers.push(Reader::new(key.kind.0, item.span(), table, self.findings));
                }
                _ => {
                    wrong_type(&format!("an item of `{}`", key.name), &Table(key.kind.0), item, self.findings)
                }
            }
        }
        Some(readers)
    }

    /// The tables that the file names itself, such as `[pool.web]`: each name, and a reader of its table.
    pub fn named(&self, key: &Key<Named>) -> Vec<(&'d Spanned<std::borrow::Cow<'d, str>>, Reader<'d>)> {
        let Some((name, value)) = self.entry(key) else { return Vec::new() };
        let Some(tables) = value.get_ref().as_table() else {
            wrong_type(&format!("`{}`", key.name), &key.kind, value, self.findings);
            return Vec::new();
        };
        if tables.len() > key.kind.max {
            self.findings.add(
                name.span(),
                format!(
                    "{} sections {} are more than {}",
                    tables.len(),
                    key.kind.section.title,
                    key.kind.max
                ),
                "split the cluster: each has a file of its own",
            );
            return Vec::new();
        }
        let mut readers = Vec::new();
        for (name, value) in tables.iter() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    readers.push((name, Reader::new(key.kind.section, name.span(), table, self.findings)));
                }
                _ => {
                    let what = format!("`{}`", quoted(&format!("{}.{}", key.name, name.get_ref())));
                    wrong_type(&what, &Table(key.kind.section), value, self.findings);
                }
            }
        }
        readers.sort_by_key(|(name, _)| name.span().start);
        readers
    }

    /// A key that takes either a word or a table.
    pub fn word_or_table<E: Copy + Sync>(
        &self,
        key: &Key<(Choices<E>, Table)>,
    ) -> Option<WordOrTable<'d, E>> {
        let (name, value) = self.entry(key)?;
        let (words, table) = &key.kind;
        match value.get_ref() {
            DeValue::Table(inner) => {
                Some(WordOrTable::Table(Reader::new(table.0, name.span(), inner, self.findings)))
            }
            DeValue::String(_) => {
                let word = words.read(&format!("`{}`", key.name), value, self.findings)?;
                Some(WordOrTable::Word(Located {
                    value: word,
                    span: value.span(),
                    key: name.span(),
                    written: true,
                }))
            }
            _ => {
                wrong_type(&format!("`{}`", key.name), &key.kind, value, self.findings);
                None
            }
        }
    }

    fn entry<K>(
        &self,
        key: &Key<K>,
    ) -> Option<(&'d Spanned<std::borrow::Cow<'d, str>>, &'d Spanned<DeValue<'d>>)> {
        debug_assert!(self.section.keys.iter().any(|k| k.name() == key.name), "{} is not listed", key.name);
        let found = self.raw(key.name);
        if found.is_none() && matches!(key.need, Need::Required) {
            self.findings.add(
                self.header.clone(),
                format!("`{}` is missing", key.name),
                format!("write `{}` in {}: {}", key.name, self.section.title, lower(key.about)),
            );
        }
        found
    }

    /// Whether a key is there and is anything but an empty table.
    pub fn fills<K>(&self, key: &Key<K>) -> bool {
        self.raw(key.name)
            .is_some_and(|(_, value)| value.get_ref().as_table().is_none_or(|table| !table.is_empty()))
    }

    fn raw(&self, name: &str) -> Option<(&'d Spanned<std::borrow::Cow<'d, str>>, &'d Spanned<DeValue<'d>>)> {
        self.table?.iter().find(|(key, _)| key.get_ref() == name)
    }
}

fn lower(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

pub(crate) enum WordOrTable<'d, E> {
    Word(Located<E>),
    Table(Reader<'d>),
}

/// Reads a key's default as if it had been written.
pub(crate) fn default<K: Kind + Sync>(key: &Key<K>) -> Option<K::Value> {
    let Need::Default(text) = key.need else { return None };
    let value = DeValue::parse(text).ok()?;
    let findings = Findings::new(text);
    key.kind.read(key.name, &value, &findings).filter(|_| findings.count() == 0)
}

/// Reports a value of another type than the key takes.
pub(crate) fn wrong_type(
    what: &str,
    shape: &dyn Shape,
    value: &Spanned<DeValue<'_>>,
    findings: &Findings<'_>,
) {
    let found = match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    findings.add(
        value.span(),
        format!("{what} must be {}, not {found}", shape.wanted()),
        format!("write {}", shape.example()),
    );
}

fn report_unknown(section: &Section, name: &Spanned<std::borrow::Cow<'_, str>>, findings: &Findings<'_>) {
    let root = std::ptr::eq(section, &super::FILE);
    let shown = |key: &str| if root { format!("`[{key}]`") } else { format!("`{key}`") };
    let all = || section.keys.iter().map(|key| key.name());
    let homes = super::keys::homes_of(name.get_ref());
    let help = if let Some(near) = nearest(name.get_ref(), all()) {
        format!("did you mean {}?", shown(near))
    } else if !homes.is_empty() {
        format!("`{}` is a key of {}", name.get_ref(), homes.join(", "))
    } else {
        let list: Vec<String> = all().map(shown).collect();
        let kind =
            if root { "sections of the file".to_owned() } else { format!("keys of {}", section.title) };
        format!("{kind}: {}", list.join(", "))
    };
    let kind = if root { "section" } else { "key" };
    findings.add(name.span(), format!("unknown {kind} `{}`", quoted(name.get_ref())), help);
}

/// The name that was most likely meant: at most a third of its letters differ.
pub(crate) fn nearest<'n>(wrong: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // The distance is quadratic in the lengths, and no known name is near such a length.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = wrong.to_lowercase();
    let near = known.map(|name| (strsim::damerau_levenshtein(&wrong, name), name)).min()?;
    (near.0 <= near.1.chars().count() / 3).then_some(near.1)
}
