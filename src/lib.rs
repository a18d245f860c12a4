//! Redrives SQS dead-letter queues by itself, safely: the AWS Lambda function as a library.
//!
//! An event wakes it, it looks at the dead-letter queues the event concerns, and it starts a redrive
//! only where no message move task is active and every guard agrees. It keeps no state: SQS's own
//! task history is its memory. Data flows through the modules in this order:
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | the environment's variables → a configuration, all faults at once |
//! | [`event`] | JSON → triggers; the only file that knows the shapes of AWS's events |
//! | [`plan`] | what the triggers of one event come to |
//! | [`enrollment`] | which DLQs a trigger concerns, and their policies |
//! | [`sqs`] | the port to SQS; AWS's error codes are told apart here and nowhere else |
//! | [`tagging`] | the port to the tagging API: which queues bear the enrol tag |
//! | [`cloudwatch`] | the port to CloudWatch: brake alarms, depth history |
//! | [`policy`] | whether to redrive: pure, to be read aloud to an operator |
//! | [`report`] | outcomes → JSON, log lines, metrics; the reason codes |
//! | [`handler`] | the shell that calls the others in turn; no policy in it |
//! | [`setup`] | from the environment to a function that is ready to be called |
//! | [`tls`] | whose certificates the function trusts |
//! | [`queue`] | the nouns: queues and their message move tasks |
//!
//! What decides never touches the world: `policy` and `queue` import no I/O, no clock, no JSON and
//! no AWS crate. What touches the world never decides. `tests/layout.rs` holds both.

mod aws_error;
pub mod cancel;
pub mod cloudwatch;
mod codes;
pub mod config;
pub mod deadlines;
pub mod decision;
pub mod enrollment;
pub mod event;
pub mod handler;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod queue;
pub mod redrive;
pub mod report;
pub mod setup;
pub mod sqs;
pub mod tagging;
mod text;
pub mod tls;
#[cfg(test)]
mod wire;
