//! Redriving: looks at every DLQ, decides, then starts or cancels what the decision says.

use crate::ask::{ages_of_held, answer};
use crate::cancel;
use crate::cloudwatch::CloudWatch;
use crate::decision::{Decision, Hold, Skip, Start, braked_task, decide};
use crate::enrollment::Target;
use crate::look::{Candidate, Context, Looks, candidate};
use crate::observation::{EXPIRES_SOON, Question};
use crate::outcome::{Failed, Finding, Findings, Outcome, Skipped};
use crate::plan::Cause;
use crate::sqs::Sqs;
use crate::start;
use futures_util::future::join3;
use futures_util::{StreamExt, stream};
use std::time::SystemTime;
use tokio::time::timeout_at;

/// Looks at these DLQs and starts a redrive wherever every gate lets the DLQ pass. Each target is
/// in the findings, whatever goes wrong. Some of the looks may have been made.
pub(crate) async fn run<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    targets: &'a [Target],
    looks: Looks<'_, S>,
) -> Findings<'a> {
    let mut sorted = Sorted::default();
    for (target, look) in looks.finish(targets, context.deadlines.look_until).await {
        match candidate(target, look) {
            Ok(candidate) => sorted.add(candidate, context.now),
            Err(outcome) => {
                let finding = Finding::unseen(target.dlq.as_str(), outcome);
                sorted.findings.others.push(finding);
            }
        }
    }
    while let Some(question) = sorted.undecided.iter().map(|(question, _)| *question).min() {
        let is_asking = |(asked, _): &mut (Question, _)| *asked == question;
        let asking = sorted.undecided.extract_if(.., is_asking);
        let asking: Vec<Candidate> = asking.map(|(_, candidate)| candidate).collect();
        for candidate in answer(context, question, asking).await {
            sorted.add(candidate, context.now);
        }
    }
    let Sorted {
        mut findings,
        ready,
        harmful,
        held,
        ..
    } = sorted;
    let stop = stop_all(context, harmful);
    let (held, stopped, started) =
        join3(hold_all(context, held), stop, start::run(context, ready)).await;
    findings.others.extend(held);
    findings.others.extend(stopped);
    findings.others.extend(started);
    findings
}

/// DLQs, grouped by the answer of the gates.
#[derive(Default)]
struct Sorted<'a> {
    findings: Findings<'a>,
    ready: Vec<(Start, Candidate<'a>)>,
    harmful: Vec<(Cause, Candidate<'a>)>,
    held: Vec<(Hold, Candidate<'a>)>,
    undecided: Vec<(Question, Candidate<'a>)>,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, candidate: Candidate<'a>, now: SystemTime) {
        if let Some(error) = &candidate.target.policy_error {
            return self.add_invalid(error, candidate);
        }
        let outcome = match decide(&candidate.target.policy, &candidate.observation, now) {
            Err(question) => return self.undecided.push((question, candidate)),
            // A dry run takes no place under the limit of starts: it shows every DLQ that would start.
            Ok(Decision::Start(start)) if candidate.target.policy.dry_run => {
                let visible = candidate.observation.depth.visible;
                Outcome::WouldStart { start, visible }
            }
            Ok(Decision::Start(start)) => return self.ready.push((start, candidate)),
            Ok(Decision::Cancel(cause)) => return self.harmful.push((cause, candidate)),
            Ok(Decision::Hold(hold)) => return self.held.push((hold, candidate)),
            Ok(Decision::Skip(Skip::Empty)) => {
                return self.findings.empty.push(candidate.target.dlq.as_str());
            }
            Ok(Decision::Skip(skip)) => Outcome::Skipped(Skipped::Gate(skip)),
        };
        self.findings.others.push(candidate.finding(outcome, now));
    }

    /// A policy that cannot be followed lifts no brake.
    fn add_invalid(&mut self, error: &str, candidate: Candidate<'a>) {
        let target = candidate.target;
        match braked_task(&target.policy, &candidate.observation) {
            Err(question) => self.undecided.push((question, candidate)),
            Ok(Some(cause)) => self.harmful.push((cause, candidate)),
            Ok(None) => {
                let outcome = Outcome::Failed(Failed::InvalidPolicy(error.to_owned()));
                let finding = Finding::unseen(target.dlq.as_str(), outcome);
                self.findings.others.push(finding);
            }
        }
    }
}

/// Reports the held DLQs, and which of them lose messages soon.
async fn hold_all<'a, S, C: CloudWatch>(
    context: &Context<'_, S, C>,
    held: Vec<(Hold, Candidate<'a>)>,
) -> Vec<Finding<'a>> {
    let candidates: Vec<&Candidate> = held.iter().map(|(_, candidate)| candidate).collect();
    let ages = ages_of_held(context, &candidates).await;
    let finding = |((hold, candidate), age): ((Hold, Candidate<'a>), Option<_>)| {
        let expires_in = age.and_then(|age| candidate.observation.expires_in(age));
        let mut finding = candidate.finding(Outcome::Held(hold), context.now);
        if let Some(details) = &mut finding.details {
            details.expires_in = expires_in.filter(|left| *left < EXPIRES_SOON);
        }
        finding
    };
    held.into_iter().zip(ages).map(finding).collect()
}

/// Cancels the RUNNING tasks that do harm.
async fn stop_all<'a, S: Sqs, C>(
    context: &Context<'_, S, C>,
    harmful: Vec<(Cause, Candidate<'a>)>,
) -> Vec<Finding<'a>> {
    let now = context.now;
    stream::iter(harmful)
        .map(async |(cause, candidate)| {
            let tasks = candidate.observation.tasks.clone();
            let target = candidate.target;
            let until = context.deadlines.act_until;
            let cancelled = cancel::cancel_listed(context.sqs, target, &cause, tasks);
            let outcome = match timeout_at(until, cancelled).await {
                Ok((outcome, _)) => outcome,
                Err(_) => Outcome::Failed(Failed::CancelUnconfirmed),
            };
            candidate.finding(outcome, now)
        })
        .buffer_unordered(context.limits.concurrency)
        .collect()
        .await
}
