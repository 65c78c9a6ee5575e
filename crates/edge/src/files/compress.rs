//! Compresses a whole file in memory. Pure: bytes in, bytes out, the same each time.
//!
//! The levels are those where more work stops to pay for what is done once and sent often. Memory beside input and
//! output is a few MiB at most: the windows are bounded.

use std::io::{self, Write};

use super::encoding::Coding;

const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 8;
/// Of eleven.
const BROTLI_LEVEL: u32 = 6;
/// Of two: browsers take at least this large a window, and it bounds the encoder's memory.
const BROTLI_WINDOW_BITS: u32 = 20;
const BROTLI_BUFFER_BYTES: usize = 4096;

/// `None`: it would not become smaller.
pub fn compress(coding: Coding, bytes: &[u8]) -> Option<Vec<u8>> {
    let out = Smaller { bytes: Vec::with_capacity(bytes.len() / 4), below: bytes.len(), is_cut: false };
    // The only failure of writing to memory is that it has become too long.
    let made = match coding {
        Coding::Gzip => gzip(bytes, out),
        Coding::Br => brotli(bytes, out),
        Coding::Zstd => zstd(bytes, out),
    };
    // Not every encoder tells whether its last bytes were taken.
    let mut made = made.ok().filter(|made| !made.is_cut)?.bytes;
    made.shrink_to_fit();
    Some(made)
}

fn gzip(bytes: &[u8], out: Smaller) -> io::Result<Smaller> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn brotli(bytes: &[u8], out: Smaller) -> io::Result<Smaller> {
    let buffer = BROTLI_BUFFER_BYTES;
    let mut encoder = brotli::CompressorWriter::new(out, buffer, BROTLI_LEVEL, BROTLI_WINDOW_BITS);
    encoder.write_all(bytes)?;
    Ok(encoder.into_inner())
}

fn zstd(bytes: &[u8], out: Smaller) -> io::Result<Smaller> {
    let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    // The window is then no larger than the file.
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Refuses to become as long as what it was made from.
struct Smaller {
    bytes: Vec<u8>,
    below: usize,
    /// Something was refused: what there is has no end.
    is_cut: bool,
}

impl Write for Smaller {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() >= self.below {
            self.is_cut = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::Read;

    use super::*;

    pub fn decompressed(coding: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let read = match coding {
            "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
            _ => zstd::Decoder::new(bytes).and_then(|mut decoder| decoder.read_to_end(&mut out)),
        };
        read.unwrap();
        out
    }

    #[test]
    fn what_comes_back_is_what_went_in() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_string().into_bytes()).collect();
        for coding in Coding::ALL {
            let made = compress(coding, &text).unwrap();
            assert!(made.len() < text.len() / 2, "{coding:?} {}", made.len());
            assert_eq!(decompressed(coding.name(), &made), text, "{coding:?}");
        }
    }

    /// Bytes of which `noisy` in a hundred are random.
    fn mixture(count: usize, noisy: u64, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        (0..count).map(|_| if next() % 100 < noisy { next() as u8 } else { b'x' }).collect()
    }

    #[test]
    fn what_does_not_become_smaller_is_not_made() {
        let noise = mixture(100_000, 100, 1);
        for coding in Coding::ALL {
            assert_eq!(compress(coding, &noise), None, "{coding:?}");
            assert_eq!(compress(coding, b""), None, "{coding:?}");
        }
    }

    #[test]
    fn near_the_bound_it_is_whole_or_nothing() {
        let mut made = 0;
        for seed in 0..2000 {
            let bytes = mixture(60 + seed as usize % 200, 50 + seed % 50, seed);
            for coding in Coding::ALL {
                if let Some(smaller) = compress(coding, &bytes) {
                    made += 1;
                    assert!(smaller.len() < bytes.len());
                    assert_eq!(decompressed(coding.name(), &smaller), bytes, "{coding:?} {seed}");
                }
            }
        }
        assert!((100..5900).contains(&made), "{made} of 6000 are near the bound");
    }
}
