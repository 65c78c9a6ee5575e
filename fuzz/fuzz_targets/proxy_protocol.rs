//! The PROXY protocol: whole or not, whatever follows, and written as it is read.
#![no_main]

libfuzzer_sys::fuzz_target!(init: tiebeam_fuzz::begin("proxy_protocol"), |input: &[u8]| tiebeam_fuzz::proxy_protocol(input));
