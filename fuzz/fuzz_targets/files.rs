//! Paths to files: no name leads out of its folder.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("files"), |input: &[u8]| tiebeam_fuzz::files(input));
