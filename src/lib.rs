//! x
pub mod config;
pub mod event;
pub mod policy;
pub mod queue;
mod text;
