//! Chunked bodies: the same in any pieces, the same to a second reader, the same framed anew.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("chunked"), |input: &[u8]| tiebeam_fuzz::chunked(input));
