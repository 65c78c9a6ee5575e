//! Bodies as a stream of data: the framing is taken off in place, byte by byte where it must be, and never trusted.

use super::{BodyLength, Fault, grammar};

/// Where in a body the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyDecoder {
    Done,
    /// This many bytes are still to come.
    Length(u64),
    UntilClose,
    Chunked(Chunked),
}

/// What one step found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data, now at the start of the buffer.
    pub data: usize,
    /// Bytes of the buffer that are used up, the data included. What follows belongs to the body's rest or to the
    /// next message.
    pub consumed: usize,
}

/// The chunked coding's own state (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    at: At,
    /// Of the size while it is read, then of the data that is left.
    left: u64,
    /// Digits read of a size.
    digits: u8,
    /// Bytes of extensions and trailers so far in this line or section.
    overhead: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    SpaceAfterSize,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    EndLineFeed,
}

/// Extensions of one chunk, or all trailers together, bytes.
const OVERHEAD_BYTES: u16 = 4096;
/// Hex digits of a size: what 64 bits hold.
const SIZE_DIGITS: u8 = 16;

impl BodyDecoder {
    pub fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::None | BodyLength::Length(0) => Self::Done,
            BodyLength::Length(n) => Self::Length(n),
            BodyLength::UntilClose => Self::UntilClose,
            BodyLength::Chunked => Self::Chunked(Chunked { at: At::Size, left: 0, digits: 0, overhead: 0 }),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes as much as there is. The data is moved together at the start of `buffer`. After an error the
    /// connection cannot be read on.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Decoded, Fault> {
        match self {
            Self::Done => Ok(Decoded::default()),
            Self::UntilClose => Ok(Decoded { data: buffer.len(), consumed: buffer.len() }),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded { data: taken, consumed: taken })
            }
            Self::Chunked(chunked) => {
                let (decoded, is_end) = chunked.decode(buffer)?;
                if is_end {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// The sender has closed: was that the end?
    pub fn finish(&mut self) -> Result<(), Fault> {
        match self {
            Self::Done => Ok(()),
            Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            _ => Err(Fault::BodyCut),
        }
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut [u8]) -> Result<(Decoded, bool), Fault> {
        let (mut data, mut at) = (0, 0);
        while at < buffer.len() {
            if self.at == At::Data {
                let run = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len() - at);
                if at != data {
                    buffer.copy_within(at..at + run, data);
                }
                (data, at, self.left) = (data + run, at + run, self.left - run as u64);
                if self.left == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            let is_end = self.step(buffer[at])?;
            at += 1;
            if is_end {
                return Ok((Decoded { data, consumed: at }, true));
            }
        }
        Ok((Decoded { data, consumed: at }, false))
    }

    /// One byte of framing. True: it was the last of the body.
    fn step(&mut self, b: u8) -> Result<bool, Fault> {
        use At::*;
        self.at = match (self.at, b) {
            (Size, b) if b.is_ascii_hexdigit() => self.size_digit(b)?,
            (Size, _) if self.digits == 0 => return Err(Fault::ChunkSize),
            (Size | Extension, b'\r') => SizeLineFeed,
            (Size, b' ' | b'\t') => SpaceAfterSize,
            (SpaceAfterSize, b' ' | b'\t') => self.overhead(SpaceAfterSize)?,
            (Size | SpaceAfterSize, b';') => Extension,
            (Extension, b) if grammar::is_value_byte(b) => self.overhead(Extension)?,
            (SizeLineFeed, b'\n') => {
                (self.digits, self.overhead) = (0, 0);
                if self.left == 0 { TrailerStart } else { Data }
            }
            (Size | SpaceAfterSize | Extension | SizeLineFeed, _) => return Err(Fault::ChunkSize),
            (DataReturn, b'\r') => DataLineFeed,
            (DataLineFeed, b'\n') => Size,
            (DataReturn | DataLineFeed, _) => return Err(Fault::ChunkEnd),
            (TrailerStart, b'\r') => EndLineFeed,
            (EndLineFeed, b'\n') => return Ok(true),
            (TrailerStart | TrailerName, b) if grammar::is_token_byte(b) => self.overhead(TrailerName)?,
            (TrailerName, b':') => TrailerValue,
            (TrailerValue, b'\r') => TrailerLineFeed,
            (TrailerValue, b) if grammar::is_value_byte(b) => self.overhead(TrailerValue)?,
            (TrailerLineFeed, b'\n') => TrailerStart,
            (TrailerStart | TrailerName | TrailerValue | TrailerLineFeed | EndLineFeed, _) => {
                return Err(Fault::Trailer);
            }
            // Data is taken in runs, never byte by byte.
            (Data, _) => return Err(Fault::ChunkEnd),
        };
        Ok(false)
    }

    fn size_digit(&mut self, b: u8) -> Result<At, Fault> {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => b - b'A' + 10,
        };
        self.digits += 1;
        if self.digits > SIZE_DIGITS || self.left >> 59 != 0 {
            return Err(Fault::ChunkOverflow);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(At::Size)
    }

    fn overhead(&mut self, next: At) -> Result<At, Fault> {
        self.overhead += 1;
        if self.overhead > OVERHEAD_BYTES { Err(Fault::ChunkOverhead) } else { Ok(next) }
    }
}
