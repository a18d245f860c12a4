//! Redriving: look at every DLQ, decide, start the deepest first.

use crate::cloudwatch::{CloudWatch, DepthQuery};
use crate::config::Limits;
use crate::deadlines::{Deadlines, half_of_time_left, retry_while_throttled};
use crate::decision::{
    Brake, BrakeState, Decision, DepthHistory, Observation, Question, Skip, Start, decide, streak,
};
use crate::enrollment::Target;
use crate::outcome::{Deferred, Failed, Finding, Outcome, Skipped};
use crate::queue::QueueArn;
use crate::sqs::{Sqs, SqsError, StartError};
use futures_util::{StreamExt, stream};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::future;
use std::time::SystemTime;
use tokio::time::{Instant, timeout_at};

/// Looks at these DLQs and starts a redrive wherever every gate lets the DLQ pass. Each target gets
/// one finding, whatever goes wrong.
pub async fn run<'a>(
    sqs: &impl Sqs,
    cloudwatch: &impl CloudWatch,
    limits: &Limits,
    targets: &'a [Target],
    now: SystemTime,
    deadlines: &Deadlines,
) -> Vec<Finding<'a>> {
    let looks = look_at_all(sqs, limits, targets, deadlines.look_until).await;
    let mut sorted = Sorted::default();
    for (target, look) in targets.iter().zip(looks) {
        match outcome_of_look(target, look) {
            Ok(observation) => sorted.add(
                Candidate {
                    target,
                    observation,
                },
                now,
            ),
            Err(outcome) => {
                let finding = Finding::unseen(target.dlq.as_str(), outcome);
                sorted.findings.push(finding);
            }
        }
    }
    while let Some(question) = sorted.undecided.iter().map(|(question, _)| *question).min() {
        let is_asking = |(asked, _): &mut (Question, _)| *asked == question;
        let asking = sorted.undecided.extract_if(.., is_asking);
        let mut asking: Vec<Candidate> = asking.map(|(_, candidate)| candidate).collect();
        let until = half_of_time_left(deadlines.ask_until);
        match question {
            Question::DepthHistory => {
                ask_depth_histories(cloudwatch, &mut asking, now, until).await
            }
            Question::Brakes => ask_brakes(cloudwatch, &mut asking, until).await,
        }
        for candidate in asking {
            sorted.add(candidate, now);
        }
    }
    let Sorted {
        mut findings,
        ready,
        ..
    } = sorted;
    findings.extend(start_all(sqs, limits, ready, now, deadlines.act_until).await);
    findings
}

/// A DLQ that was looked at.
struct Candidate<'a> {
    target: &'a Target,
    observation: Observation,
}

impl<'a> Candidate<'a> {
    fn finding(self, outcome: Outcome, now: SystemTime) -> Finding<'a> {
        Finding {
            queue_arn: self.target.dlq.as_str(),
            outcome,
            streak: streak(&self.target.policy, &self.observation, now),
            depth: Some(self.observation.depth),
            tasks: self.observation.tasks,
            depth_history: self.observation.depth_history,
        }
    }
}

/// DLQs by what the gates answer.
#[derive(Default)]
struct Sorted<'a> {
    findings: Vec<Finding<'a>>,
    ready: Vec<(Start, Candidate<'a>)>,
    undecided: Vec<(Question, Candidate<'a>)>,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, candidate: Candidate<'a>, now: SystemTime) {
        let outcome = match decide(&candidate.target.policy, &candidate.observation, now) {
            Err(question) => return self.undecided.push((question, candidate)),
            Ok(Decision::Start(start)) => return self.ready.push((start, candidate)),
            Ok(Decision::Skip(skip)) => Outcome::Skipped(Skipped::Gate(skip)),
            Ok(Decision::Hold(hold)) => Outcome::Held(hold),
        };
        self.findings.push(candidate.finding(outcome, now));
    }
}

/// Looks at each DLQ whose policy is valid. `None` for DLQs that were not reached, or did not answer,
/// before `until`.
async fn look_at_all(
    sqs: &impl Sqs,
    limits: &Limits,
    targets: &[Target],
    until: Instant,
) -> Vec<Option<Result<Observation, SqsError>>> {
    let mut answers = vec![None; targets.len()];
    let valid = targets.iter().zip(&mut answers);
    let valid = valid.filter(|(target, _)| target.policy_error.is_none());
    let looks = valid.map(|(target, answer)| async {
        let look = async || look(sqs, &target.dlq).await;
        *answer = Some(retry_while_throttled(look, SqsError::is_throttled).await);
    });
    let looks = stream::iter(looks).buffer_unordered(limits.concurrency);
    // Running out of time is no error: the DLQs without an answer are deferred.
    let _ = timeout_at(until, looks.for_each(future::ready)).await;
    answers
}

/// Takes one call if the DLQ is empty, two if it is not.
async fn look(sqs: &impl Sqs, dlq: &QueueArn) -> Result<Observation, SqsError> {
    let depth = sqs.depth(dlq).await?;
    let tasks = match depth.is_empty() {
        true => Vec::new(),
        false => sqs.list_tasks(dlq).await?,
    };
    Ok(Observation {
        depth,
        tasks,
        ..Observation::default()
    })
}

/// `Err` if the look already decides what happens to the DLQ.
fn outcome_of_look(
    target: &Target,
    look: Option<Result<Observation, SqsError>>,
) -> Result<Observation, Outcome> {
    if let Some(error) = &target.policy_error {
        return Err(Outcome::Failed(Failed::InvalidPolicy(error.clone())));
    }
    match look {
        Some(Ok(observation)) => Ok(observation),
        Some(Err(SqsError::QueueNotFound(_))) if !target.listed => {
            Err(Outcome::Skipped(Skipped::RecentlyDeleted))
        }
        Some(Err(error)) => Err(Outcome::Failed(Failed::Sqs(error))),
        None => Err(Outcome::Deferred(Deferred::NotLookedAt)),
    }
}

/// Answers [`Question::DepthHistory`] for these DLQs. Silence until `until` is an answer too.
async fn ask_depth_histories(
    cloudwatch: &impl CloudWatch,
    asking: &mut [Candidate<'_>],
    now: SystemTime,
    until: Instant,
) {
    let query = |candidate: &Candidate| DepthQuery {
        dlq: candidate.target.dlq.clone(),
        quiet_period: candidate.target.policy.quiet_period,
    };
    let queries: Vec<DepthQuery> = asking.iter().map(query).collect();
    let histories = timeout_at(until, cloudwatch.depth_histories(&queries, now)).await;
    let mut histories = histories.unwrap_or_default().into_iter();
    for candidate in asking {
        let history = histories.next();
        let history = history.unwrap_or_else(|| DepthHistory::Unreadable(NO_ANSWER.to_owned()));
        candidate.observation.depth_history = Some(history);
    }
}

/// Answers [`Question::Brakes`] for these DLQs. Silence until `until` is an answer too.
async fn ask_brakes(cloudwatch: &impl CloudWatch, asking: &mut [Candidate<'_>], until: Instant) {
    let alarms = asking.iter().flat_map(|it| &it.target.policy.brake_alarms);
    let alarms: BTreeSet<&String> = alarms.collect();
    let alarms: Vec<String> = alarms.into_iter().cloned().collect();
    let brakes = timeout_at(until, cloudwatch.brakes(&alarms)).await;
    let brakes = brakes.unwrap_or_else(|_| alarms.into_iter().map(unknown_brake).collect());
    for Candidate {
        target,
        observation,
    } in asking
    {
        let named = &target.policy.brake_alarms;
        let of_this_dlq = brakes.iter().filter(|brake| named.contains(&brake.alarm));
        observation.brakes = Some(of_this_dlq.cloned().collect());
    }
}

fn unknown_brake(alarm: String) -> Brake {
    let state = BrakeState::Unknown(NO_ANSWER.to_owned());
    Brake { alarm, state }
}

const NO_ANSWER: &str = "CloudWatch did not answer in time";

/// Starts the deepest DLQs first, as many as one invocation may start.
async fn start_all<'a>(
    sqs: &impl Sqs,
    limits: &Limits,
    mut ready: Vec<(Start, Candidate<'a>)>,
    now: SystemTime,
    until: Instant,
) -> Vec<Finding<'a>> {
    ready.sort_by_key(|(_, candidate)| Reverse(candidate.observation.depth.visible));
    let mut findings = Vec::with_capacity(ready.len());
    let mut starts_left = limits.max_starts;
    while starts_left > 0 && !ready.is_empty() {
        let shallower = ready.split_off(ready.len().min(starts_left));
        let mut starts = stream::iter(ready)
            .map(async |(start, candidate)| {
                let outcome = start_one(sqs, start, &candidate, until).await;
                candidate.finding(outcome, now)
            })
            .buffer_unordered(limits.concurrency);
        while let Some(finding) = starts.next().await {
            // A deferred start may have taken effect. A failed one leaves its place to the next DLQ,
            // or the same few would take all places every time.
            if !matches!(finding.outcome, Outcome::Failed(_) | Outcome::Skipped(_)) {
                starts_left = starts_left.saturating_sub(1);
            }
            findings.push(finding);
        }
        drop(starts);
        ready = shallower;
    }
    let over_limit = || Outcome::Deferred(Deferred::StartLimit(limits.max_starts));
    let deferred = ready
        .into_iter()
        .map(|(_, it)| it.finding(over_limit(), now));
    findings.extend(deferred);
    findings
}

async fn start_one(
    sqs: &impl Sqs,
    start: Start,
    candidate: &Candidate<'_>,
    until: Instant,
) -> Outcome {
    let Candidate {
        target,
        observation,
    } = candidate;
    let visible = observation.depth.visible;
    if target.policy.dry_run {
        return Outcome::WouldStart { start, visible };
    }
    let call = async || sqs.start(&target.dlq, &start).await;
    let call = retry_while_throttled(call, StartError::is_throttled);
    match timeout_at(until, call).await {
        Ok(Ok(handle)) => Outcome::Started {
            start,
            visible,
            handle,
        },
        // Another invocation was faster, or an earlier start whose answer was lost took effect.
        Ok(Err(StartError::TaskActive)) => Outcome::Skipped(Skipped::Gate(Skip::TaskActive)),
        Ok(Err(StartError::Sqs(error))) => Outcome::Failed(Failed::Sqs(error)),
        Err(_) => Outcome::Deferred(Deferred::StartUnconfirmed),
    }
}
