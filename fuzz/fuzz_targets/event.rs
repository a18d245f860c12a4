//! Feeds any payload to the function as its event.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| sqs_auto_redrive_fuzz::event::check(payload));
