//! Feeds any text to the function as its environment and the tags of a queue.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sqs_auto_redrive_fuzz::config::check(input));
