//! What the triggers of one event come to: one task, and with which DLQs.

use crate::event::{Action, Alarm, CallsFor, Request, Selection, Trigger};
use crate::policy::Policy;
use crate::queue::{Location, QueueRef};
use crate::report::{MAX_LISTED, TriggerReport};
use std::collections::BTreeSet;

/// What to do about an event.
pub struct Plan {
    /// What the report says of it.
    pub trigger: TriggerReport,
    /// What to do.
    pub task: Task,
    /// With which DLQs.
    pub selection: Selection,
    /// The request, if it is one.
    pub request: Option<Request>,
}

/// What to do with each DLQ.
pub enum Task {
    /// Redrive it if every gate agrees.
    Redrive,
    /// Cancel its task if it is RUNNING.
    Cancel(Cause),
}

/// Why tasks are cancelled.
pub enum Cause {
    /// A request asked for it.
    Requested,
    /// This brake alarm is in ALARM.
    Braked(String),
}

/// What the triggers of one event come to. A brake goes before all, then a request, which is always
/// alone; a sweep covers every alarm; what calls for nothing counts only where it is all there is.
pub fn plan(triggers: Vec<Trigger>, environment: &Policy, location: &Location) -> Plan {
    let mut weightiest = 0;
    let mut plan = Plan {
        trigger: TriggerReport::default(),
        task: Task::Redrive,
        selection: Selection::Named(Vec::new()),
        request: None,
    };
    let mut named: Vec<QueueRef> = Vec::new();
    let mut all = false;
    for Trigger {
        source,
        alarm,
        calls_for,
    } in triggers
    {
        let brake = alarm
            .as_ref()
            .filter(|alarm| is_brake(alarm, environment, location));
        let mut why = None;
        let state = brake.map(|alarm| (alarm.state.as_str(), &alarm.name));
        let (weight, kind) = match (state, calls_for) {
            (Some(("ALARM", name)), _) => {
                plan.task = Task::Cancel(Cause::Braked(name.clone()));
                all = true;
                (6, "brake")
            }
            (Some(("OK", _)), _) => {
                all = true;
                (5, "brake")
            }
            (_, CallsFor::Request(request)) => {
                if request.action == Action::Cancel {
                    plan.task = Task::Cancel(Cause::Requested);
                }
                match &request.queues {
                    Selection::All => all = true,
                    Selection::Named(queues) => named.extend_from_slice(queues),
                }
                plan.request = Some(request);
                (4, "request")
            }
            (_, CallsFor::Sweep) => {
                all = true;
                (3, if alarm.is_some() { "alarm" } else { "schedule" })
            }
            (_, CallsFor::Queues(queues)) => {
                named.extend(queues);
                (2, "alarm")
            }
            (_, CallsFor::Nothing(because)) => {
                why = Some(because);
                (1, "ignored")
            }
        };
        if weight > weightiest {
            weightiest = weight;
            plan.trigger = TriggerReport {
                kind,
                source,
                queues: Vec::new(),
                why,
            };
        }
    }
    if all {
        plan.selection = Selection::All;
        return plan;
    }
    let names: BTreeSet<&String> = named.iter().map(|queue| &queue.name).collect();
    plan.trigger.queues = names.into_iter().take(MAX_LISTED).cloned().collect();
    plan.selection = Selection::Named(named);
    plan
}

/// Whether this is one of the brake alarms, which are of the function's own account and region.
fn is_brake(alarm: &Alarm, policy: &Policy, location: &Location) -> bool {
    let own_account = match (&alarm.account, &location.account) {
        (Some(account), Some(own)) => account == own,
        _ => true,
    };
    let own_region = alarm
        .region
        .as_ref()
        .is_none_or(|region| *region == location.region);
    own_account && own_region && policy.brake_alarms.contains(&alarm.name)
}
