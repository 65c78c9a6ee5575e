//! Bodies: the chunked coding taken off in any pieces, and what it may be taken for.

use super::arrivals;
use crate::codec::{BodyDecoder, BodyLength, Fault, LAST_CHUNK, write_chunk_line};

/// What became of the bytes of a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    pub data: Vec<u8>,
    /// Bytes that belong to it, if it is whole.
    pub end: Option<usize>,
}

/// Decodes a body from `pieces`, as a connection does.
pub fn decode(length: BodyLength, pieces: &[&[u8]]) -> Result<Body, Fault> {
    let (mut decoder, mut data, mut used) = (BodyDecoder::new(length), Vec::new(), 0);
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let decoded = decoder.decode(&mut buffer)?;
        assert!(decoded.data <= decoded.consumed && decoded.consumed <= buffer.len());
        assert!(decoder.is_done() || decoded.consumed == buffer.len(), "bytes are left of a body under way");
        data.extend_from_slice(&buffer[..decoded.data]);
        used += decoded.consumed;
    }
    let is_done = decoder.is_done();
    assert_eq!(decoder.finish().is_ok(), is_done || length == BodyLength::UntilClose);
    Ok(Body { data, end: is_done.then_some(used) })
}

/// A chunked body is the same whatever its pieces, the same as a second reader finds it, and the same when it is
/// framed anew.
pub fn chunked(data: &[u8]) {
    let ways = arrivals(data);
    let whole = decode(BodyLength::Chunked, &ways[0]);
    for way in &ways[1..] {
        assert_eq!(decode(BodyLength::Chunked, way), whole, "in {} pieces", way.len());
    }
    let second = second_reader(data);
    let Ok(Body { data: body, end: Some(end) }) = whole else {
        assert_eq!(second, None, "taken for whole by a second reader");
        return;
    };
    assert_eq!(second, Some((body.clone(), end)));
    let mut again = Vec::new();
    for part in body.chunks(7) {
        write_chunk_line(&mut again, part.len());
        again.extend_from_slice(part);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(LAST_CHUNK);
    let end = Some(again.len());
    assert_eq!(decode(BodyLength::Chunked, &[&again]), Ok(Body { data: body, end }));
}

/// Reads a whole chunked body by the grammar of RFC 9112 section 7.1, line by line: the data, and where it ends.
fn second_reader(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    // As the edge's own.
    const OVERHEAD: usize = 4096;
    let (mut data, mut rest) = (Vec::new(), input);
    loop {
        let line = take_line(&mut rest)?;
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        if size.is_empty() || size.len() > 16 || !(extension.is_empty() || is_extension(extension, OVERHEAD))
        {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let mut overhead = 0;
    loop {
        let line = take_line(&mut rest)?;
        if line.is_empty() {
            return Some((data, input.len() - rest.len()));
        }
        let colon = line.iter().position(|b| *b == b':')?;
        let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        // The colon itself is not counted.
        overhead += line.len() - 1;
        if colon == 0 || !line[..colon].iter().all(is_token) || overhead > OVERHEAD {
            return None;
        }
    }
}

/// Whitespace, a semicolon, and what the edge does not look at.
fn is_extension(text: &[u8], most: usize) -> bool {
    let after = text.trim_ascii_start();
    let spaces = text.len() - after.len();
    // The first space and the semicolon are not counted.
    after.starts_with(b";") && spaces.saturating_sub(1) + after.len() - 1 <= most
}

/// What stands before the next CR LF, if there is no control in it.
fn take_line<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let at = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..at];
    *rest = &rest[at + 2..];
    line.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)).then_some(line)
}
