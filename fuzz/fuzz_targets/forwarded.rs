//! Whom a request was forwarded for: nobody is believed but trusted proxies.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("forwarded"), |input: &[u8]| tiebeam_fuzz::forwarded(input));
