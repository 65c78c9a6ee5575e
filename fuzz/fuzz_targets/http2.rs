//! HTTP/2 as HTTP/1.1 and back: one request stays one request.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("http2"), |input: &[u8]| tiebeam_fuzz::http2(input));
