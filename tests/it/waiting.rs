//! Tests that mostly wait, for timeouts and schedules: `make test` runs them beside the others.

mod deploy;
mod faults;
mod timeouts;
