//! Redrives SQS dead-letter queues by itself, safely: the AWS Lambda function as a library.
//!
//! An event wakes the function. It looks at the dead-letter queues (DLQs) that the event concerns,
//! and it starts a redrive where every gate lets the DLQ pass. It keeps no state: SQS's own task
//! history is its memory.
//!
//! # Modules
//!
//! | module | what it does |
//! |---|---|
//! | [`setup`] | creates the function from the environment, once per process |
//! | [`config`] | reads the variables, and lists everything that is wrong with them |
//! | [`tls`] | knows which root certificates the function trusts |
//! | [`handler`] | takes an invocation from its event to its report |
//! | [`deadlines`] | divides the time of an invocation among its steps |
//! | [`event`] | parses events; only its files know the shapes of AWS's events |
//! | [`plan`] | decides what an event calls for |
//! | [`enrollment`] | finds the DLQs that the event concerns, and the policy of each |
//! | `turns` | orders the DLQs of a sweep, so that each gets its turn if the time is short |
//! | [`policy`] | holds what an operator sets for a DLQ, and finds settings that contradict each other |
//! | [`observation`] | holds what is known of one DLQ, and what a decision may ask |
//! | [`fall`] | estimates how long a failing message takes to come back |
//! | [`metrics`] | says what to ask CloudWatch about a DLQ, and reduces the answer |
//! | [`verdict`] | judges past move tasks: which stayed away, which came back |
//! | [`decision`] | decides whether to redrive a DLQ, and how much of it: the gates |
//! | [`redrive`] | redrives: look, ask, decide, then start or stop |
//! | `look` | looks at the DLQs |
//! | `ask` | answers what the decisions ask, for many DLQs in as few calls as possible |
//! | `start` | starts move tasks, and stops samples |
//! | `memory` | remembers source facts for some minutes, to save calls |
//! | [`cancel`] | cancels RUNNING move tasks |
//! | [`outcome`] | names what happened to a queue: outcomes, reasons and every sentence about them |
//! | [`report`] | turns outcomes into JSON, log lines and metrics |
//! | [`sqs`] | calls SQS: the port to it |
//! | [`cloudwatch`] | calls CloudWatch: the port for brake alarms and a DLQ's metrics |
//! | [`tagging`] | calls the tagging API: the port for queues with the enroll tag |
//! | `sender` | says the same about the sender in every call to AWS |
//! | `aws_error` | tells AWS's errors apart; the only file that knows their codes |
//! | [`queue`] | defines queues, their depth and their move tasks |
//! | `codes` | gives outcomes, reasons and kinds of events codes that never change |
//! | `text` | quotes other people's text on one line |
//!
//! # Rules
//!
//! What decides never touches the world, and what touches the world never decides.
//!
//! - [`config`], [`plan`], [`enrollment`], [`policy`], [`observation`], [`fall`], [`metrics`],
//!   [`verdict`], [`decision`], [`outcome`], [`queue`], `codes` and `text` are pure: no I/O, no
//!   clock, no JSON, no AWS and no log. The time is an argument.
//! - Only a port knows the SDK of its service. It speaks our own types, and no type of the SDK
//!   leaves it.
//! - Only [`handler`] reads the time, once per invocation. Only it prints, and only the metrics.
//! - Nothing panics, and nothing is `unsafe`.
//!
//! `tests/it/layout.rs` lists what each file may name. A new file must be added to that list.
//!
//! # When it does not redrive
//!
//! The gates of [`decision::decide`], in their order. A new gate is a function in `src/decision.rs`, a row
//! of its table `GATES`, and a variant of `Skip` or `Hold` with its sentence in `src/outcome.rs`; `CONTRIBUTING.md`
//! has the whole list. Numbers in parentheses are defaults.
//!
//! <!-- gates -->
//! | reason code | when |
//! |---|---|
//! | `empty` | The DLQ has no messages. |
//! | `task-active` | A move task is active. The function stops its own if it does harm, and any if a brake is in ALARM. |
//! | `in-flight-only` | All its messages are in flight: someone is reading the DLQ. |
//! | `below-minimum` | Fewer messages are visible than the minimum (1). |
//! | `paused` | The function or the DLQ is paused. |
//! | `tags-unreadable` | The tags of a listed DLQ, which may pause it, cannot be read. |
//! | `cooling-down`, `not-consumed` | It is too early to judge the last task: its messages may still come back, or nobody has handled them yet. After anything but a sample, 15 minutes must pass. |
//! | `metrics-unreadable` | CloudWatch or SQS fails to show whether the consumer works, and more than a few messages (40) wait. |
//! | `attempts-exhausted` | Too many redrives in a row (5) came back or FAILED, and the messages cannot be parked. |
//! | `cooling-down` | The last redrives came back. From the second one on, the cooldown (15 minutes) doubles each time. |
//! | `still-filling` | Many new messages arrive: it is unclear whether the last redrive came back. |
//! | `still-filling` | The DLQ still grows after a redrive: its consumer still fails. |
//! | `braked`, `brake-unknown` | A brake alarm is in ALARM, does not exist, or cannot be read. |
//! <!-- /gates -->
//!
//! # An alarm becomes a move task
//!
//! 1. Lambda invokes the function with an event. `src/handler.rs` reads the time and Lambda's
//!    deadline.
//! 2. `src/event.rs` parses the event: `src/event/envelope.rs` unwraps it, and `src/event/alarm.rs`
//!    reads the alarm, whatever its shape.
//! 3. `src/plan.rs` decides: the alarm is in ALARM and names a queue, so the plan is to redrive
//!    that queue.
//! 4. `src/tagging.rs` reads the queue's tags, if there is an enroll tag.
//! 5. `src/enrollment.rs` finds that the queue is enrolled, and works out its policy.
//! 6. `src/look.rs` looks at the DLQ: `src/sqs.rs` returns its depth and its latest move tasks.
//! 7. `src/decision.rs` asks the gates. If one needs to know more, `src/ask.rs` asks: `src/sqs.rs`
//!    for the source queues, `src/cloudwatch.rs` for metrics and brake alarms. Then the gates are
//!    asked again.
//! 8. Every gate lets the DLQ pass, so `src/start.rs` starts a sample: a move task at one message a
//!    second, which it cancels after 20 seconds. If the sample stayed away, the next look starts
//!    the rest.
//! 9. If SQS throttles the start, `src/start.rs` repeats it until the time is up. Then the DLQ is
//!    `deferred`, and the next invocation looks at it again.
//! 10. `src/outcome.rs` has the code, the reason and the sentence for what happened, and
//!     `src/report.rs` turns them into the answer, the log and the metrics.

mod ask;
mod aws_error;
pub mod cancel;
pub mod cloudwatch;
mod codes;
pub mod config;
pub mod deadlines;
pub mod decision;
pub mod enrollment;
pub mod event;
pub mod fall;
pub mod handler;
mod look;
mod memory;
pub mod metrics;
pub mod observation;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod queue;
pub mod redrive;
pub mod report;
mod sender;
pub mod setup;
pub mod sqs;
mod start;
pub mod tagging;
mod text;
pub mod tls;
mod turns;
pub mod verdict;
#[cfg(test)]
mod wire;
