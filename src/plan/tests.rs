use super::*;
use crate::event::alarm::AlarmQueueError;
use crate::queue::QueueRef;

const ACCOUNT: &str = "123456789012";
const REGION: &str = "us-east-1";
const BRAKE: &str = "orders consumer is down";

/// An alarm in ALARM of the function's own account and region that names no queue.
fn alarm(name: &str) -> Alarm {
    Alarm {
        source: Some(format!("arn of {name}")),
        name: name.to_owned(),
        state: AlarmState::Alarm,
        account: Some(ACCOUNT.to_owned()),
        region: Some(REGION.to_owned()),
        silenced: None,
        composite: false,
        queues: Ok(Vec::new()),
    }
}

fn naming(queues: &[&str]) -> Trigger {
    Trigger::Alarm(Alarm {
        queues: Ok(queues.iter().map(|name| queue(name)).collect()),
        ..alarm("depth")
    })
}

fn composite() -> Trigger {
    Trigger::Alarm(Alarm {
        composite: true,
        ..alarm("composite")
    })
}

fn brake(state: AlarmState) -> Trigger {
    Trigger::Alarm(Alarm {
        state,
        ..alarm(BRAKE)
    })
}

fn schedule() -> Trigger {
    Trigger::Schedule {
        source: Some("arn of schedule".to_owned()),
    }
}

fn muted() -> Trigger {
    Trigger::Alarm(Alarm {
        silenced: Some(Silence::Muted),
        ..alarm("muted")
    })
}

fn queue(name: &str) -> QueueRef {
    name.parse().unwrap()
}

fn named(queues: &[&str]) -> Selection {
    Selection::Named(queues.iter().map(|name| queue(name)).collect())
}

fn redrive(queues: Selection) -> Request {
    Request {
        action: request::Action::Redrive,
        queues,
        dry_run: false,
        force: false,
        max_messages_per_second: None,
        sample: None,
        destination: None,
    }
}

fn location(account: Option<&str>) -> Location {
    Location {
        partition: "aws".to_owned(),
        region: REGION.to_owned(),
        account: account.map(str::to_owned),
    }
}

fn planned(triggers: impl IntoIterator<Item = Trigger>) -> Plan {
    let triggers = triggers.into_iter().collect();
    plan(triggers, &[BRAKE.to_owned()], &[], &location(Some(ACCOUNT)))
}

#[track_caller]
fn assert_sweeps(plan: &Plan, kind: Kind, source: &str) {
    assert_eq!((plan.kind, &plan.selection), (kind, &Selection::All));
    assert_eq!(plan.action, Action::Redrive);
    assert_eq!(plan.source.as_deref(), Some(source));
    assert_eq!(plan.why, None);
}

#[track_caller]
fn assert_cancels_everywhere(plan: &Plan) {
    assert_eq!((plan.kind, &plan.selection), (Kind::Brake, &Selection::All));
    let brake = Cause::Braked(BRAKE.to_owned());
    assert_eq!(plan.action, Action::Cancel(brake));
    let source = format!("arn of {BRAKE}");
    assert_eq!(plan.source, Some(source));
    assert_eq!(plan.why, None);
}

#[track_caller]
fn assert_ignored(trigger: Trigger, why: &str) {
    let plan = planned([trigger]);
    assert_eq!((plan.kind, plan.selection), (Kind::Ignored, named(&[])));
    assert_eq!(plan.action, Action::Redrive);
    assert_eq!(plan.why.as_deref(), Some(why));
}

// One trigger.

#[test]
fn brake_in_alarm_cancels_everywhere() {
    assert_cancels_everywhere(&planned([brake(AlarmState::Alarm)]));
}

#[test]
fn brake_in_alarm_cancels_even_while_silenced_or_watching_a_queue_that_cannot_exist() {
    let suppressed = Silence::SuppressedBy("WaitPeriod".to_owned());
    for silenced in [None, Some(suppressed), Some(Silence::Muted)] {
        let brake = Alarm {
            silenced,
            queues: Err(AlarmQueueError::Name("a b".to_owned())),
            ..alarm(BRAKE)
        };
        assert_cancels_everywhere(&planned([Trigger::Alarm(brake)]));
    }
}

#[test]
fn brake_that_is_not_in_alarm_now_is_ignored_whatever_the_event_says() {
    let brakes = [BRAKE.to_owned()];
    let triggers = vec![brake(AlarmState::Alarm)];
    let plan = plan(triggers, &brakes, &brakes, &location(Some(ACCOUNT)));
    assert_eq!((plan.kind, plan.selection), (Kind::Ignored, named(&[])));
    assert_eq!(plan.action, Action::Redrive);
    let why = "the event says that the brake alarm is in ALARM, but it is not in ALARM now";
    assert_eq!(plan.why.as_deref(), Some(why));
}

#[test]
fn only_brakes_in_alarm_of_the_functions_account_and_region_are_read_each_once() {
    let brakes = [BRAKE.to_owned(), "second".to_owned()];
    let second = Trigger::Alarm(alarm("second"));
    let elsewhere = Trigger::Alarm(Alarm {
        region: Some("eu-west-1".to_owned()),
        ..alarm("second")
    });
    let here = location(Some(ACCOUNT));
    let none = [
        brake(AlarmState::Ok),
        composite(),
        naming(&["orders-dlq"]),
        elsewhere,
        schedule(),
    ];
    assert_eq!(brakes_in_alarm(&none, &brakes, &here), [""; 0]);
    let both = [second, brake(AlarmState::Alarm), brake(AlarmState::Alarm)];
    assert_eq!(brakes_in_alarm(&both, &brakes, &here), ["second", BRAKE]);
}

#[test]
fn brake_in_ok_sweeps() {
    let plan = planned([brake(AlarmState::Ok)]);
    assert_sweeps(&plan, Kind::Brake, &format!("arn of {BRAKE}"));
}

#[test]
fn brake_in_any_other_state_is_ignored() {
    for state in ["INSUFFICIENT_DATA", "alarm"] {
        let why = format!("the alarm is in {state}, not in ALARM");
        assert_ignored(brake(AlarmState::Other(state.to_owned())), &why);
    }
}

#[test]
fn alarm_named_like_a_brake_in_another_account_or_region_is_no_brake() {
    let elsewhere = [
        Alarm {
            account: Some("999999999999".to_owned()),
            ..alarm(BRAKE)
        },
        Alarm {
            region: Some("eu-west-1".to_owned()),
            ..alarm(BRAKE)
        },
    ];
    for namesake in elsewhere {
        assert_ignored(Trigger::Alarm(namesake), "the alarm names no SQS queue");
    }
}

#[test]
fn alarm_of_another_name_is_no_brake() {
    let other = Alarm {
        composite: true,
        ..alarm("orders consumer is")
    };
    assert_eq!(planned([Trigger::Alarm(other)]).kind, Kind::Alarm);
}

#[test]
fn unknown_account_or_region_counts_as_the_functions_own() {
    let nowhere = Alarm {
        account: None,
        region: None,
        ..alarm(BRAKE)
    };
    assert_cancels_everywhere(&planned([Trigger::Alarm(nowhere)]));
    let emulator = location(None);
    let trigger = brake(AlarmState::Alarm);
    assert_cancels_everywhere(&plan(vec![trigger], &[BRAKE.to_owned()], &[], &emulator));
}

#[test]
fn alarm_not_in_alarm_is_ignored_whatever_else_it_has() {
    let insufficient = AlarmState::Other("INSUFFICIENT_DATA".to_owned());
    for state in [AlarmState::Ok, insufficient] {
        let why = format!("the alarm is in {}, not in ALARM", state.as_str());
        let recovered = Alarm {
            state,
            silenced: Some(Silence::Muted),
            composite: true,
            queues: Ok(vec![queue("orders-dlq")]),
            ..alarm("depth")
        };
        assert_ignored(Trigger::Alarm(recovered), &why);
    }
}

#[test]
fn silenced_alarm_is_ignored() {
    let silenced = |silence| {
        Trigger::Alarm(Alarm {
            silenced: Some(silence),
            composite: true,
            queues: Ok(vec![queue("orders-dlq")]),
            ..alarm("depth")
        })
    };
    assert_ignored(
        silenced(Silence::SuppressedBy("Wait\nPeriod".to_owned())),
        "the alarm's actions are suppressed by Wait\\nPeriod",
    );
    assert_ignored(silenced(Silence::Muted), "the alarm is muted");
}

#[test]
fn alarm_that_names_queues_calls_for_these() {
    let plan = planned([naming(&["orders-dlq", "payments-dlq"])]);
    assert_eq!(plan.kind, Kind::Alarm);
    assert_eq!(plan.selection, named(&["orders-dlq", "payments-dlq"]));
    assert_eq!(plan.action, Action::Redrive);
    assert_eq!(plan.source.as_deref(), Some("arn of depth"));
    assert_eq!(plan.why, None);
}

#[test]
fn event_that_names_more_than_a_thousand_queues_sweeps() {
    let alarm = |n: usize| naming(&[&format!("dlq-{n}")]);
    let named = planned((0..1000).map(alarm));
    assert!(matches!(named.selection, Selection::Named(queues) if queues.len() == 1000));
    let swept = planned((0..1001).map(alarm));
    assert_eq!((swept.kind, swept.selection), (Kind::Alarm, Selection::All));
}

#[test]
fn queue_that_many_records_name_counts_once() {
    let repeated = planned((0..1001).map(|n| naming(&[&format!("dlq-{}", n % 3)])));
    assert_eq!(repeated.selection, named(&["dlq-0", "dlq-1", "dlq-2"]));
}

#[test]
fn composite_alarm_sweeps_unless_it_names_queues() {
    assert_sweeps(&planned([composite()]), Kind::Alarm, "arn of composite");
    let contributor = Alarm {
        composite: true,
        queues: Ok(vec![queue("orders-dlq")]),
        ..alarm("composite")
    };
    let plan = planned([Trigger::Alarm(contributor)]);
    assert_eq!(plan.selection, named(&["orders-dlq"]));
}

#[test]
fn alarm_that_names_no_queue_is_ignored() {
    assert_ignored(naming(&[]), "the alarm names no SQS queue");
}

#[test]
fn alarm_on_a_queue_that_cannot_exist_is_ignored() {
    let watching = |error| {
        Trigger::Alarm(Alarm {
            composite: true,
            queues: Err(error),
            ..alarm("depth")
        })
    };
    assert_ignored(
        watching(AlarmQueueError::Name("a b".to_owned())),
        "the alarm names `a b`, which is not a queue name",
    );
    assert_ignored(
        watching(AlarmQueueError::Account("12".to_owned())),
        "the alarm names `12`, which is not an account ID",
    );
}

#[test]
fn schedule_sweeps() {
    assert_sweeps(&planned([schedule()]), Kind::Schedule, "arn of schedule");
}

#[test]
fn configuration_change_is_ignored() {
    let trigger = Trigger::ConfigurationChange { source: None };
    assert_ignored(trigger, "the alarm's configuration changed, not its state");
}

#[test]
fn request_is_planned_as_asked() {
    for queues in [Selection::All, named(&["orders-dlq"])] {
        let cancel = Request {
            action: request::Action::Cancel,
            ..redrive(queues.clone())
        };
        for (request, action) in [
            (redrive(queues.clone()), Action::Redrive),
            (cancel, Action::Cancel(Cause::Requested)),
        ] {
            let expected = Plan {
                kind: Kind::Request,
                source: None,
                why: None,
                action,
                selection: queues.clone(),
                request: Some(request.clone()),
            };
            assert_eq!(planned([Trigger::Request(request)]), expected);
        }
    }
}

// Several triggers.

/// The plan in both orders: the rank decides, whichever trigger came first.
#[track_caller]
fn both_orders(one: Trigger, other: Trigger) -> Plan {
    let plan = planned([one.clone(), other.clone()]);
    assert_eq!(planned([other, one]), plan);
    plan
}

#[test]
fn brake_in_alarm_wins_over_every_other_trigger() {
    for other in [
        brake(AlarmState::Ok),
        Trigger::Request(redrive(named(&["orders-dlq"]))),
        schedule(),
        composite(),
        naming(&["orders-dlq"]),
        muted(),
    ] {
        assert_cancels_everywhere(&both_orders(brake(AlarmState::Alarm), other));
    }
}

#[test]
fn brake_in_ok_wins_over_a_request() {
    let request = Trigger::Request(redrive(named(&["orders-dlq"])));
    let plan = both_orders(brake(AlarmState::Ok), request);
    assert_sweeps(&plan, Kind::Brake, &format!("arn of {BRAKE}"));
}

#[test]
fn request_wins_over_a_sweep() {
    let request = Trigger::Request(redrive(named(&["orders-dlq"])));
    let plan = both_orders(schedule(), request);
    assert_eq!((plan.kind, plan.selection), (Kind::Request, Selection::All));
}

#[test]
fn sweep_wins_over_named_queues() {
    let plan = both_orders(naming(&["orders-dlq"]), composite());
    assert_sweeps(&plan, Kind::Alarm, "arn of composite");
    let plan = both_orders(naming(&["orders-dlq"]), schedule());
    assert_sweeps(&plan, Kind::Schedule, "arn of schedule");
}

#[test]
fn ignored_trigger_counts_only_if_there_is_no_other() {
    let plan = both_orders(muted(), naming(&["orders-dlq"]));
    assert_eq!((plan.kind, plan.why), (Kind::Alarm, None));
    assert_eq!(plan.selection, named(&["orders-dlq"]));
}

#[test]
fn queues_of_all_alarms_are_joined_and_the_first_alarm_is_the_source() {
    let second = Trigger::Alarm(Alarm {
        queues: Ok(vec![queue("payments-dlq")]),
        ..alarm("second")
    });
    let plan = planned([naming(&["orders-dlq"]), muted(), second]);
    assert_eq!(plan.source.as_deref(), Some("arn of depth"));
    assert_eq!(plan.selection, named(&["orders-dlq", "payments-dlq"]));
}

#[test]
fn of_two_ignored_triggers_the_first_says_why() {
    let plan = planned([muted(), naming(&[])]);
    assert_eq!(plan.source.as_deref(), Some("arn of muted"));
    assert_eq!(plan.why.as_deref(), Some("the alarm is muted"));
}

#[test]
fn no_trigger_calls_for_nothing() {
    assert_eq!(planned([]).kind, Kind::Ignored);
    assert_eq!(planned([]).selection, named(&[]));
}
