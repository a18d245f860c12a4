//! Whose turn it is: in which order sweeps look at the DLQs if they have no time for all of them.

use crate::enrollment::Target;
use crate::outcome::{Deferred, Failed, Finding, Outcome};
use crate::queue::QueueArn;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The DLQ whose last turn was longest ago comes first. So every DLQ gets its turn.
///
/// A DLQ had its turn if SQS answered about it, or if it hung: otherwise it would keep the others waiting
/// for ever. Where only the time was up, it keeps its place.
#[derive(Default)]
pub(crate) struct Turns(Mutex<Sweeps>);

#[derive(Default)]
struct Sweeps {
    /// How many there were in this process.
    number: u64,
    /// The sweep in which a DLQ had its last turn. Without an entry, nothing makes it wait.
    turns: HashMap<QueueArn, u64>,
}

impl Turns {
    /// Whether a sweep may look at this DLQ before it knows all of them: not if the DLQ had its turn in
    /// the last sweep and another one had not, or if it hung there.
    pub(crate) fn may_come_early(&self, dlq: &QueueArn) -> bool {
        let sweeps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sweeps.turns.get(dlq) != Some(&sweeps.number)
    }

    /// Puts the targets in the order of the sweep. Those whose last turn was in the same sweep keep the order
    /// of their ARNs, but begin at a random one: two processes should not begin with the same DLQs.
    pub(crate) fn apply(&self, targets: &mut [Target], now: SystemTime) {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = since_epoch.subsec_nanos() as usize;
        if let Some(n) = random.checked_rem(targets.len()) {
            targets.rotate_left(n);
        }
        let sweeps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !sweeps.turns.is_empty() {
            targets.sort_by_key(|target| sweeps.turns.get(&target.dlq).copied());
        }
    }

    /// Notes which DLQs had their turn in the sweep that ends.
    pub(crate) fn note(&self, targets: &[Target], findings: &[Finding]) {
        let hung = findings.iter().filter_map(|finding| {
            let hung = match finding.outcome {
                Outcome::Deferred(Deferred::NotLookedAt)
                | Outcome::Failed(Failed::CancelNotSent) => false,
                Outcome::Deferred(Deferred::NoAnswer)
                | Outcome::Failed(Failed::CancelUnconfirmed) => true,
                _ => return None,
            };
            Some((finding.queue_arn, hung))
        });
        let hung: HashMap<&str, bool> = hung.collect();
        let all_had_it = hung.values().all(|hung| *hung);
        let mut sweeps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = sweeps.number + 1;
        let turns = targets.iter().filter_map(|target| {
            let turn = match hung.get(target.dlq.as_str()) {
                None if all_had_it => None,
                None | Some(true) => Some(number),
                Some(false) => sweeps.turns.get(&target.dlq).copied(),
            };
            Some((target.dlq.clone(), turn?))
        });
        let turns = turns.collect();
        *sweeps = Sweeps { number, turns };
    }
}
