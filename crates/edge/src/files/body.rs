//! What is sent of a file, piece by piece: the whole, a part, several parts with their own heads, or a form in memory.
//!
//! [`Body::fill`] reads the disk and is called on blocking threads only.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::forms::Form;
use super::ranges::Part;
use crate::buffer::LONG_BUFFER_BYTES;

/// The bytes behind a head.
#[derive(Debug)]
pub struct Body {
    source: Source,
    /// Bytes in all, the heads of parts included.
    pub length: u64,
}

#[derive(Debug)]
enum Source {
    Parts { file: File, parts: Vec<(Vec<u8>, Part)>, at: usize, done: u64, closing: Vec<u8> },
    Form { form: Arc<Form>, done: usize },
    Nothing,
}

impl Body {
    pub fn empty() -> Self {
        Self { source: Source::Nothing, length: 0 }
    }

    pub fn part(file: File, part: Part) -> Self {
        let parts = vec![(Vec::new(), part)];
        Self {
            source: Source::Parts { file, parts, at: 0, done: 0, closing: Vec::new() },
            length: part.length,
        }
    }

    pub fn form(form: Arc<Form>) -> Self {
        Self { length: form.bytes.len() as u64, source: Source::Form { form, done: 0 } }
    }

    /// As `multipart/byteranges` (RFC 9110 section 14.6) of a file of `bytes`. The boundary must be in no file: 128
    /// random bits.
    pub fn multipart(file: File, parts: Vec<Part>, bytes: u64, media_type: &str, boundary: &str) -> Self {
        let lead = |part: &Part| {
            let (first, last) = (part.start, part.start + part.length - 1);
            format!(
                "\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: bytes {first}-{last}/{bytes}\r\n\r\n"
            )
        };
        let parts: Vec<_> = parts.into_iter().map(|part| (lead(&part).into_bytes(), part)).collect();
        let closing = format!("\r\n--{boundary}--\r\n").into_bytes();
        let in_parts: u64 = parts.iter().map(|(lead, part)| lead.len() as u64 + part.length).sum();
        Self {
            length: in_parts + closing.len() as u64,
            source: Source::Parts { file, parts, at: 0, done: 0, closing },
        }
    }

    /// Does the next [`Body::fill`] wait for a disk?
    pub fn is_on_disk(&self) -> bool {
        matches!(self.source, Source::Parts { .. })
    }

    /// Appends what comes next, about [`LONG_BUFFER_BYTES`] at most. Nothing: that was all.
    ///
    /// # Errors
    /// Those of the disk; `UnexpectedEof` if the file has become shorter since its length was told.
    pub fn fill(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.source {
            Source::Nothing => {}
            Source::Form { form, done } => {
                let rest = &form.bytes[*done..];
                let taken = rest.len().min(LONG_BUFFER_BYTES);
                chunk.extend_from_slice(&rest[..taken]);
                *done += taken;
            }
            Source::Parts { file, parts, at, done, closing } => {
                let before = chunk.len();
                while let Some((lead, part)) = parts.get(*at) {
                    let room = LONG_BUFFER_BYTES.saturating_sub(chunk.len() - before);
                    if room == 0 {
                        return Ok(());
                    }
                    if *done == 0 {
                        chunk.extend_from_slice(lead);
                    }
                    let wanted = (part.length - *done).min(room as u64);
                    read_at(file, part.start + *done, wanted as usize, chunk)?;
                    *done += wanted;
                    if *done == part.length {
                        (*at, *done) = (*at + 1, 0);
                    }
                }
                chunk.append(closing);
            }
        }
        Ok(())
    }
}

fn read_at(file: &File, start: u64, count: usize, chunk: &mut Vec<u8>) -> io::Result<()> {
    let before = chunk.len();
    chunk.resize(before + count, 0);
    file.read_exact_at(&mut chunk[before..], start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut body: Body) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        loop {
            let mut chunk = Vec::new();
            body.fill(&mut chunk).unwrap();
            if chunk.is_empty() {
                let length: usize = chunks.iter().map(Vec::len).sum();
                assert_eq!(length as u64, body.length);
                return chunks;
            }
            chunks.push(chunk);
        }
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn several_parts_with_their_heads() {
        let parts = vec![Part { start: 7, length: 3 }, Part { start: 0, length: 1 }];
        let body = Body::multipart(file(b"0123456789"), parts, 10, "text/plain", "b");
        let text = "\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
                    \r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--b--\r\n";
        assert_eq!(String::from_utf8(all(body).concat()).unwrap(), text);
    }

    #[test]
    fn pieces_are_bounded() {
        let bytes: Vec<u8> = (0..200_001u32).map(|n| n as u8).collect();
        let whole = all(Body::part(file(&bytes), Part { start: 1, length: 200_000 }));
        assert!(whole.len() == 4 && whole.concat() == bytes[1..]);
        let parts = (0..10).map(|n| Part { start: n * 20_000, length: 20_000 }).collect();
        let many = all(Body::multipart(file(&bytes), parts, 200_001, "x", "b"));
        assert!(many.iter().all(|chunk| chunk.len() < LONG_BUFFER_BYTES + 200), "{}", many.len());
        assert!(all(Body::part(file(b""), Part { start: 0, length: 0 })).is_empty());
        assert!(all(Body::empty()).is_empty());
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let mut body = Body::part(file(b"0123"), Part { start: 0, length: 5 });
        let error = body.fill(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
