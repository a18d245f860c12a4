//! What an event calls for: the one decision about events. Pure.

use crate::codes::codes;
use crate::event::Trigger;
use crate::event::alarm::{Alarm, AlarmState, Silence};
use crate::event::request::{self, Request, Selection};
use crate::queue::Location;
use crate::text::excerpt;
use std::collections::BTreeSet;

/// What to do about an event.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The kind of trigger that decided.
    pub kind: Kind,
    /// The ARN of the schedule, rule or alarm that decided; `None` if the event does not have it.
    pub source: Option<String>,
    /// Why the event was ignored, an English clause; `None` if it was not.
    pub why: Option<String>,
    /// What to do with each DLQ.
    pub action: Action,
    /// Which DLQs.
    pub selection: Selection,
    /// The request, if the event is one.
    pub request: Option<Request>,
}

codes! {
    /// Kinds of triggers, each outranking those before it.
    pub enum Kind {
        /// A trigger that calls for nothing.
        Ignored = "ignored",
        /// An alarm in ALARM: look at the DLQs it names, or at every one if it is composite.
        Alarm = "alarm",
        /// A schedule: look at every enrolled DLQ.
        Schedule = "schedule",
        /// A request: do what it asks for.
        Request = "request",
        /// A brake alarm: ALARM cancels tasks, OK looks at every enrolled DLQ.
        Brake = "brake",
    }
}

/// What to do with each DLQ.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a redrive if every gate agrees.
    Redrive,
    /// Cancel its task if it is RUNNING.
    Cancel(Cause),
}

/// Why tasks are canceled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A request asked for it.
    Requested,
    /// The brake alarm of this name is in ALARM.
    Braked(String),
    /// The task is a sample, and its time is over.
    SampleOver,
    /// The task's messages come back, or its consumer handles nothing.
    Bouncing,
}

/// The brake alarms that are in ALARM according to these triggers, each once. An event may be old,
/// so [`plan`] needs to know which of them are not in ALARM now.
pub fn brakes_in_alarm(
    triggers: &[Trigger],
    brake_alarms: &[String],
    location: &Location,
) -> Vec<String> {
    let mut names = Vec::new();
    for trigger in triggers {
        if let Trigger::Alarm(alarm) = trigger
            && alarm.state == AlarmState::Alarm
            && is_brake(alarm, brake_alarms, location)
            && !names.contains(&alarm.name)
        {
            names.push(alarm.name.clone());
        }
    }
    names
}

/// Combines the triggers of one event. A brake wins over a request, a request over a sweep, and a
/// sweep over named queues. An ignored trigger counts only if there is no other. `brake_alarms` are
/// names; a brake alarm is in the function's own account and region, its `location`. `released` are
/// the brake alarms that are not in ALARM now, whatever the event says.
pub fn plan(
    triggers: Vec<Trigger>,
    brake_alarms: &[String],
    released: &[String],
    location: &Location,
) -> Plan {
    let is_brake = |alarm: &Alarm| is_brake(alarm, brake_alarms, location);
    let plans = triggers
        .into_iter()
        .map(|trigger| plan_one(trigger, is_brake, released));
    let nothing = || Plan::ignored(None, "the event has no trigger");
    let plan = plans.reduce(Plan::combine).unwrap_or_else(nothing);
    let mut selection = plan.selection;
    if let Selection::Named(queues) = &mut selection {
        let mut known = BTreeSet::new();
        queues.retain(|queue| known.insert(queue.clone()));
        if queues.len() > MAX_NAMED_QUEUES {
            selection = Selection::All;
        }
    }
    Plan { selection, ..plan }
}

/// Above this many named queues, a sweep costs less than reading the tags of each.
const MAX_NAMED_QUEUES: usize = 1000;

/// What one trigger calls for.
fn plan_one(trigger: Trigger, is_brake: impl Fn(&Alarm) -> bool, released: &[String]) -> Plan {
    match trigger {
        Trigger::Schedule { source } => Plan::new(Kind::Schedule, source, Selection::All),
        Trigger::Request(request) => Plan::requested(request),
        Trigger::ConfigurationChange { source } => {
            Plan::ignored(source, "the alarm's configuration changed, not its state")
        }
        Trigger::Alarm(alarm) => {
            let (is_brake, source) = (is_brake(&alarm), alarm.source);
            match (alarm.state, alarm.silenced, alarm.queues) {
                (AlarmState::Alarm, ..) if is_brake && released.contains(&alarm.name) => {
                    let why = "the event says that the brake alarm is in ALARM, but it is not in ALARM now";
                    Plan::ignored(source, why)
                }
                // A brake counts even while its actions are suppressed or muted.
                (AlarmState::Alarm, ..) if is_brake => Plan::braked(source, alarm.name),
                (AlarmState::Ok, ..) if is_brake => Plan::new(Kind::Brake, source, Selection::All),
                (AlarmState::Alarm, Some(Silence::SuppressedBy(suppressor)), _) => {
                    let suppressor = excerpt(&suppressor);
                    let why = format!("the alarm's actions are suppressed by {suppressor}");
                    Plan::ignored(source, why)
                }
                (AlarmState::Alarm, Some(Silence::Muted), _) => {
                    Plan::ignored(source, "the alarm is muted")
                }
                (AlarmState::Alarm, None, Ok(queues)) if !queues.is_empty() => {
                    Plan::new(Kind::Alarm, source, Selection::Named(queues))
                }
                (AlarmState::Alarm, None, Ok(_)) if alarm.composite => {
                    Plan::new(Kind::Alarm, source, Selection::All)
                }
                (AlarmState::Alarm, None, Ok(_)) => {
                    Plan::ignored(source, "the alarm names no SQS queue")
                }
                (AlarmState::Alarm, None, Err(error)) => Plan::ignored(source, error.to_string()),
                (state, ..) => {
                    let state = excerpt(state.as_str());
                    Plan::ignored(source, format!("the alarm is in {state}, not in ALARM"))
                }
            }
        }
    }
}

/// Whether this is a brake alarm. An unknown account or region counts as the function's own.
fn is_brake(alarm: &Alarm, brake_alarms: &[String], location: &Location) -> bool {
    let own_account = match (&alarm.account, &location.account) {
        (Some(account), Some(own)) => account == own,
        _ => true,
    };
    let region = alarm.region.as_ref();
    let own_region = region.is_none_or(|region| *region == location.region);
    own_account && own_region && brake_alarms.contains(&alarm.name)
}

impl Plan {
    fn new(kind: Kind, source: Option<String>, selection: Selection) -> Self {
        Self {
            kind,
            source,
            why: None,
            action: Action::Redrive,
            selection,
            request: None,
        }
    }

    fn ignored(source: Option<String>, why: impl Into<String>) -> Self {
        Self {
            why: Some(why.into()),
            ..Self::new(Kind::Ignored, source, Selection::Named(Vec::new()))
        }
    }

    fn requested(request: Request) -> Self {
        let action = match request.action {
            request::Action::Redrive => Action::Redrive,
            request::Action::Cancel => Action::Cancel(Cause::Requested),
        };
        let selection = request.queues.clone();
        Self {
            action,
            request: Some(request),
            ..Self::new(Kind::Request, None, selection)
        }
    }

    fn braked(source: Option<String>, alarm: String) -> Self {
        Self {
            action: Action::Cancel(Cause::Braked(alarm)),
            ..Self::new(Kind::Brake, source, Selection::All)
        }
    }

    /// The plan of the higher rank, or else the first, for the queues of both.
    fn combine(self, other: Self) -> Self {
        let (plan, outranked) = if other.rank() > self.rank() {
            (other, self)
        } else {
            (self, other)
        };
        let selection = match (plan.selection, outranked.selection) {
            (Selection::Named(mut queues), Selection::Named(more)) => {
                queues.extend(more);
                Selection::Named(queues)
            }
            _ => Selection::All,
        };
        Self { selection, ..plan }
    }

    /// By kind; then a brake in ALARM over one in OK, and a composite alarm over named queues.
    fn rank(&self) -> (Kind, bool, bool) {
        let is_cancel = self.action != Action::Redrive;
        (self.kind, is_cancel, self.selection == Selection::All)
    }
}

#[cfg(test)]
mod tests;
