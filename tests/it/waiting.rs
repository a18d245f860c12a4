//! Tests that mostly wait for timeouts and schedules: `make test` runs them in parallel with the
//! others.

mod check_aws;
mod deploy;
mod faults;
mod sample;
mod timeouts;
