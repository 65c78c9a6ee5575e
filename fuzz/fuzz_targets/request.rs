//! Requests: the same in any pieces, and written with one meaning only.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("request"), |input: &[u8]| tiebeam_fuzz::request(input));
