//! Ranges of files: no part lies outside.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("ranges"), |input: &[u8]| tiebeam_fuzz::ranges(input));
