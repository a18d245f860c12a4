//! What the tests share: AWS and Lambda around the function.

pub mod account;
pub mod cloudwatch;
pub mod fake;
pub mod function;
pub mod hang;
pub mod http;
pub mod local;
pub mod many;
pub mod proxy;
pub mod python;
pub mod queues;
pub mod report;
pub mod runtime;
pub mod tagging;
