#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frontdoor_fuzz::ucws::run(data));
