//! Finds what answers a request for a file: which file, in which coding, whether at all, and which part of it.
//!
//! Blocks on the disk, and may compress: runs on blocking threads only. What it decides, it asks of the pure files
//! beside it.

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::asked::Asked;
use super::body::Body;
use super::compress::compress;
use super::conditions::{Validators, Verdict};
use super::encoding::Coding;
use super::forms::{Form, Forms, Found, Key};
use super::kind::{Kind, kind};
use super::open::{Missing, Opened, Root};
use super::ranges::{Part, Ranges};
use crate::counters::Reason;

/// A smaller file fits in a packet or two as it is.
const WORTH_BYTES: u64 = 1024;

/// Where to look, and within which bounds.
#[derive(Debug)]
pub struct Lookup {
    pub directory: Arc<PathBuf>,
    /// Relative to it; empty or with a slash at its end for a folder.
    pub name: String,
    /// A file of more bytes is never compressed on the way.
    pub compress_bytes: u64,
    /// Bytes of all compressed forms together.
    pub compressed_bytes: usize,
    pub now: SystemTime,
    /// 128 random bits, for the boundary between parts.
    pub boundary: String,
}

#[derive(Debug)]
pub struct Reply {
    /// 200, 206 or 304.
    pub status: u16,
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Body,
    /// A bound that was reached on the way: the answer is less than it could be, and right.
    pub reached: Option<Reason>,
}

#[derive(Debug)]
pub enum Outcome {
    Reply(Reply),
    /// 412.
    Failed,
    /// 416, for a file of so many bytes.
    Beyond(u64),
}

pub fn find(lookup: &Lookup, asked: &Asked, forms: &Forms) -> Result<Outcome, Missing> {
    let root = Root::open(&lookup.directory)?;
    let is_folder = lookup.name.is_empty() || lookup.name.ends_with('/');
    let name = if is_folder { format!("{}index.html", lookup.name) } else { lookup.name.clone() };
    let plain = root.file(&name)?;
    let kind = kind(&name);
    if !kind.is_compressible {
        return Ok(of_file(plain, kind, None, lookup, asked));
    }
    for coding in asked.accepted.in_order() {
        if let Some(sibling) = sibling(&root, &name, &plain, coding) {
            return Ok(of_file(sibling, kind, Some(coding), lookup, asked));
        }
    }
    match made(&plain, kind, lookup, asked, forms).map_err(Missing::Failed)? {
        Made::Reply(reply) => Ok(Outcome::Reply(reply)),
        Made::Not(reached) => Ok(match of_file(plain, kind, None, lookup, asked) {
            Outcome::Reply(reply) => Outcome::Reply(Reply { reached: reply.reached.or(reached), ..reply }),
            other => other,
        }),
    }
}

/// The same file compressed beforehand, `app.js.br` for `app.js`. One that is older than its file was forgotten when
/// that changed.
fn sibling(root: &Root, name: &str, plain: &Opened, coding: Coding) -> Option<Opened> {
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let sibling = root.file(&format!("{name}{}", coding.suffix())).ok()?;
    (seconds(sibling.modified) >= seconds(plain.modified)).then_some(sibling)
}

enum Made {
    Reply(Reply),
    /// The plain file is sent; because this bound was reached.
    Not(Option<Reason>),
}

/// The file compressed on the way. Its tag is weak, so that parts and strong conditions are for the plain file.
fn made(plain: &Opened, kind: Kind, lookup: &Lookup, asked: &Asked, forms: &Forms) -> io::Result<Made> {
    let is_worth = (WORTH_BYTES..=lookup.compress_bytes).contains(&plain.bytes);
    let needs_strong = asked.range.is_some() || asked.conditions.if_match.is_some();
    let validators = Validators::of(plain.modified, plain.bytes, "", false, lookup.now);
    let Some(coding) = asked.accepted.in_order().next().filter(|_| is_worth && !needs_strong) else {
        return Ok(Made::Not(None));
    };
    // What changes at this moment would be kept under the name of what it was. And who has the plain file needs no other.
    if !validators.is_settled || asked.conditions.verdict(&validators) != Verdict::Send {
        return Ok(Made::Not(None));
    }
    let validators =
        Validators::of(plain.modified, plain.bytes, &format!("-{}", coding.name()), true, lookup.now);
    let mut fields = described(&validators, kind);
    if asked.conditions.verdict(&validators) == Verdict::Unchanged {
        return Ok(Made::Reply(Reply { status: 304, fields, body: Body::empty(), reached: None }));
    }
    let compressed = || {
        let mut bytes = vec![0; usize::try_from(plain.bytes).map_err(io::Error::other)?];
        plain.file.read_exact_at(&mut bytes, 0)?;
        Ok(compress(coding, &bytes))
    };
    let form: Arc<Form> = match forms.find(Key::of(plain, coding), lookup.compressed_bytes, compressed)? {
        Found::Form(form) => form,
        Found::NotWorth => return Ok(Made::Not(None)),
        Found::Busy => return Ok(Made::Not(Some(Reason::CompressBusy))),
    };
    fields.push(("Content-Type", kind.media_type.into()));
    fields.push(("Content-Encoding", coding.name().into()));
    Ok(Made::Reply(Reply { status: 200, fields, body: Body::form(form), reached: None }))
}

/// A file as it is on the disk, in the coding that it is in there.
fn of_file(opened: Opened, kind: Kind, coding: Option<Coding>, lookup: &Lookup, asked: &Asked) -> Outcome {
    let suffix = coding.map(|coding| format!("-{}", coding.name())).unwrap_or_default();
    let bytes = opened.bytes;
    let validators = Validators::of(opened.modified, bytes, &suffix, false, lookup.now);
    let mut fields = described(&validators, kind);
    match asked.conditions.verdict(&validators) {
        Verdict::Failed => return Outcome::Failed,
        Verdict::Unchanged => {
            return Outcome::Reply(Reply { status: 304, fields, body: Body::empty(), reached: None });
        }
        Verdict::Send => {}
    }
    fields.push(("Accept-Ranges", "bytes".into()));
    fields.extend(coding.map(|coding| ("Content-Encoding", coding.name().into())));
    let range = asked.range.as_deref().filter(|_| asked.conditions.allow_parts(&validators));
    let ranges = range.map_or(Ranges::Whole, |range| Ranges::parse(range, bytes));
    let whole = Part { start: 0, length: bytes };
    let (status, media_type, body, reached) = match ranges {
        Ranges::Beyond => return Outcome::Beyond(bytes),
        Ranges::Whole => (200, kind.media_type.into(), Body::part(opened.file, whole), None),
        Ranges::TooMany => {
            (200, kind.media_type.into(), Body::part(opened.file, whole), Some(Reason::RangeCount))
        }
        Ranges::Parts(parts) => match parts.as_slice() {
            [part] => {
                let (first, last) = (part.start, part.start + part.length - 1);
                fields.push(("Content-Range", format!("bytes {first}-{last}/{bytes}").into()));
                (206, kind.media_type.into(), Body::part(opened.file, *part), None)
            }
            _ => {
                let boundary = &lookup.boundary;
                let media_type = format!("multipart/byteranges; boundary={boundary}").into();
                let body = Body::multipart(opened.file, parts, bytes, kind.media_type, boundary);
                (206, media_type, body, None)
            }
        },
    };
    fields.push(("Content-Type", media_type));
    Outcome::Reply(Reply { status, fields, body, reached })
}

/// What every answer about a file says, a 304 too (RFC 9110 section 15.4.5).
fn described(validators: &Validators, kind: Kind) -> Vec<(&'static str, Cow<'static, str>)> {
    let mut fields = vec![
        ("ETag", validators.tag.to_string().into()),
        ("Last-Modified", httpdate::fmt_http_date(validators.modified).into()),
    ];
    if kind.is_compressible {
        fields.push(("Vary", "Accept-Encoding".into()));
    }
    fields
}
