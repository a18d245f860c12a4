//! The tests of the whole function. They are one crate, because each crate links the AWS SDK again.
//!
//! `make test` runs `waiting`, whose tests mostly wait for timeouts, in parallel with the others.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
// For `cost`, which awaits the deeply nested future of `setup::function`.
#![recursion_limit = "256"]

mod broken;
mod cost;
mod events;
mod fleet;
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod guards;
mod handler;
mod lambda;
mod layout;
mod metrics;
mod model;
mod outcomes;
mod permissions;
mod pictures;
mod practice;
mod properties;
mod races;
mod readme;
mod release;
mod setup;
mod soak;
mod stack;
mod support;
mod template;
mod waiting;
