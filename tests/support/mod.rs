//! What the tests share: the world around the function.

#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod account;
pub mod cloudwatch;
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
