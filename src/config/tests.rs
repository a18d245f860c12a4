use super::*;
use std::collections::BTreeSet;

const DLQ: &str = "arn:aws:sqs:eu-west-1:123456789012:orders-dlq";
const OTHER_DLQ: &str = "arn:aws:sqs:eu-west-1:123456789012:payments-dlq";
const ORDERS: &str = "arn:aws:sqs:eu-west-1:123456789012:orders";
const FIFO: &str = "arn:aws:sqs:eu-west-1:123456789012:orders.fifo";
const ELSEWHERE: &str = "arn:aws:sqs:us-east-1:123456789012:orders";
const ANOTHERS: &str = "arn:aws:sqs:eu-west-1:999999999999:orders";

/// Variables and what they hold.
type Vars<'a> = &'a [(&'a str, &'a str)];

/// Reads exactly these variables.
fn read(vars: Vars) -> Result<Config, ConfigError> {
    let owned = |&(variable, value): &(&str, &str)| (variable.to_owned(), value.to_owned());
    Config::from_vars(vars.iter().map(owned))
}

/// Reads these variables together with a list of one DLQ, so that nothing else is wrong.
fn with(vars: Vars) -> Result<Config, ConfigError> {
    read(&[&[("REDRIVE_QUEUES", DLQ)], vars].concat())
}

fn faults(result: Result<Config, ConfigError>) -> Vec<VariableError> {
    result.map_or_else(|invalid| invalid.0, |_| Vec::new())
}

/// The only fault, as a person reads it.
fn only_fault(case: &str, result: Result<Config, ConfigError>) -> String {
    match &faults(result)[..] {
        [fault] => fault.to_string(),
        other => panic!("{case}: one fault expected, got {other:?}"),
    }
}

fn arn(text: &str) -> QueueArn {
    text.parse().unwrap()
}

fn hours(n: u64) -> Duration {
    minutes(60 * n)
}

#[test]
fn unset_variables_mean_the_defaults_of_the_table() {
    let config = read(&[("REDRIVE_QUEUES", DLQ)]).unwrap();
    assert_eq!(config.queues, [arn(DLQ)]);
    assert_eq!(config.enroll_tag, None);
    assert_eq!(config.limits.max_starts, 20);
    assert_eq!(config.limits.concurrency, 64);
    let policy = config.policy;
    assert_eq!(policy.max_messages_per_second, Rate::new(50));
    assert_eq!(policy.min_messages, 1);
    assert_eq!(policy.cooldown, minutes(15));
    assert_eq!(policy.quiet_period, minutes(10));
    assert_eq!(policy.patience, hours(12));
    assert_eq!(policy.max_attempts, 5);
    assert_eq!(policy.attempt_window, hours(24));
    assert_eq!(policy.destination, None);
    assert_eq!(policy.parking, None);
    assert_eq!(policy.brake_alarms, Vec::<String>::new());
    assert_eq!(policy.sample, Duration::from_secs(20));
    assert!(!policy.paused);
    assert!(!policy.dry_run);
}

#[test]
fn every_variable_takes_effect_and_touches_nothing_else() {
    type Effect = fn(&mut Config);
    let table: [(&str, &str, Effect); 20] = [
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "7", |c| {
            c.policy.max_messages_per_second = Rate::new(7);
        }),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "auto", |c| {
            c.policy.max_messages_per_second = None;
        }),
        ("REDRIVE_MIN_MESSAGES", "10", |c| c.policy.min_messages = 10),
        ("REDRIVE_COOLDOWN", "1h", |c| c.policy.cooldown = hours(1)),
        ("REDRIVE_QUIET_PERIOD", "30m", |c| {
            c.policy.quiet_period = minutes(30);
        }),
        ("REDRIVE_PATIENCE", "6h", |c| c.policy.patience = hours(6)),
        ("REDRIVE_MAX_ATTEMPTS", "3", |c| c.policy.max_attempts = 3),
        ("REDRIVE_ATTEMPT_WINDOW", "2d", |c| {
            c.policy.attempt_window = hours(48);
        }),
        ("REDRIVE_DESTINATION_ARN", ORDERS, |c| {
            c.policy.destination = Some(arn(ORDERS));
        }),
        ("REDRIVE_PARKING_ARN", ORDERS, |c| {
            c.policy.parking = Some(arn(ORDERS));
        }),
        ("REDRIVE_BRAKE_ALARMS", "orders 5xx", |c| {
            c.policy.brake_alarms = vec!["orders 5xx".into()];
        }),
        ("REDRIVE_SAMPLE", "0", |c| c.policy.sample = Duration::ZERO),
        ("REDRIVE_SAMPLE", "12", |c| {
            c.policy.sample = Duration::from_secs(12);
        }),
        ("REDRIVE_PAUSED", "true", |c| c.policy.paused = true),
        ("REDRIVE_PAUSED", "TRUE", |c| c.policy.paused = true),
        ("REDRIVE_DRY_RUN", "True", |c| c.policy.dry_run = true),
        ("REDRIVE_MAX_STARTS", "1", |c| c.limits.max_starts = 1),
        ("REDRIVE_CONCURRENCY", "8", |c| c.limits.concurrency = 8),
        ("REDRIVE_ENROLL_TAG", "auto-redrive", |c| {
            c.enroll_tag = Some(EnrollTag {
                key: "auto-redrive".into(),
                value: None,
            });
        }),
        ("REDRIVE_PAUSED", "false", |_| {}),
    ];
    for (variable, text, effect) in table {
        let mut expected = with(&[]).unwrap();
        effect(&mut expected);
        assert_eq!(with(&[(variable, text)]), Ok(expected), "{variable}={text}");
    }
    let shown: BTreeSet<_> = table.iter().map(|(variable, ..)| *variable).collect();
    for (name, _) in SETTINGS {
        let variable = format!("REDRIVE_{}", name.to_uppercase().replace('-', "_"));
        assert!(shown.contains(&*variable), "{variable} has no row");
    }
}

#[test]
fn all_faults_are_reported_together_with_variable_value_and_what_is_accepted() {
    let long_list = "a,".repeat(60) + &"b".repeat(256);
    let table = [
        ("REDRIVE_QUEUES", "orders-dlq", "queue ARN"),
        ("REDRIVE_ENROLL_TAG", "=on", "`key=value`"),
        (
            "REDRIVE_MAX_MESSAGES_PER_SECOND",
            "fast",
            "1 to 500, or `auto`",
        ),
        ("REDRIVE_MIN_MESSAGES", "many", "from 1 to"),
        (
            "REDRIVE_COOLDOWN",
            "5 parsecs",
            "a duration from 1m to 14days",
        ),
        ("REDRIVE_QUIET_PERIOD", "4h", "a duration from 0s to 3h"),
        (
            "REDRIVE_PATIENCE",
            "endless",
            "a duration from 1m to 14days",
        ),
        ("REDRIVE_MAX_ATTEMPTS", "ten", "from 1 to 9"),
        (
            "REDRIVE_ATTEMPT_WINDOW",
            "-1h",
            "a duration from 1m to 14days",
        ),
        ("REDRIVE_DESTINATION_ARN", "orders", "queue ARN"),
        ("REDRIVE_PARKING_ARN", "parked", "queue ARN"),
        ("REDRIVE_BRAKE_ALARMS", &long_list, "up to 255 characters"),
        ("REDRIVE_SAMPLE", "often", "seconds from 10 to 30"),
        ("REDRIVE_PAUSED", "perhaps", "`true` or `false`"),
        ("REDRIVE_DRY_RUN", "1", "`true` or `false`"),
        ("REDRIVE_MAX_STARTS", "all", "from 1 to 100"),
        ("REDRIVE_CONCURRENCY", "1e3", "from 1 to 1000"),
        ("REDRIVE_PAUSE", "true", "no such variable"),
    ];
    let vars: Vec<(&str, &str)> = table.iter().map(|(name, text, _)| (*name, *text)).collect();
    let invalid = read(&vars).unwrap_err();
    let whole = invalid.to_string();
    assert!(whole.starts_with("configuration: "), "{whole}");
    for (variable, value, accepted) in table {
        let of_it: Vec<&VariableError> = invalid
            .0
            .iter()
            .filter(|fault| fault.variable == variable)
            .collect();
        let [fault] = of_it[..] else {
            panic!("{variable}: one fault expected, got {of_it:?}");
        };
        let text = fault.to_string();
        let start = format!("`{variable}` holds `{}", value.get(..90).unwrap_or(value));
        assert!(text.starts_with(&start), "{variable}: {text}");
        assert!(text.contains(accepted), "{variable}: {text}");
        assert!(whole.contains(&text), "{variable} is not in: {whole}");
    }
    assert_eq!(invalid.0.len(), table.len(), "no other faults: {whole}");
}

#[test]
fn every_bound_is_where_the_table_has_it() {
    #[rustfmt::skip]
    let table: [(&str, &[&str], &[&str]); 12] = [
        // variable, accepted, refused
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", &["2", "500", "auto"], &["0", "1", "501", "-1", "1.5", "65537", "automatic"]),
        ("REDRIVE_MIN_MESSAGES", &["1", "1000000000"], &["0", "-1", "18446744073709551616"]),
        ("REDRIVE_COOLDOWN", &["1m", "60s", "4h"], &["59s", "0", "0s", "14d 1s", "15d"]),
        ("REDRIVE_QUIET_PERIOD", &["0", "0s", "1s", "3h"], &["3h 1s", "-1s"]),
        ("REDRIVE_PATIENCE", &["1m", "14d"], &["59s", "0", "14d 1s"]),
        ("REDRIVE_MAX_ATTEMPTS", &["1", "9"], &["0", "10"]),
        ("REDRIVE_ATTEMPT_WINDOW", &["90m", "14d"], &["59s", "0", "14d 1s"]),
        ("REDRIVE_MAX_STARTS", &["1", "100"], &["0", "101", "-1"]),
        ("REDRIVE_CONCURRENCY", &["1", "1000"], &["0", "1001", "-1"]),
        ("REDRIVE_SAMPLE", &["0", "10", "20", "30"], &["-1", "1", "5", "9", "31", "20s", "20.0", "off"]),
        ("REDRIVE_PAUSED", &["true", "false"], &["yes", "no", "on", "0"]),
        ("REDRIVE_DRY_RUN", &["true", "false"], &["yes", "no", "on", "0"]),
    ];
    for (variable, accepted, refused) in table {
        for text in accepted {
            let result = with(&[(variable, text)]);
            assert!(result.is_ok(), "{variable}={text} is accepted: {result:?}");
        }
        for text in refused {
            let case = format!("{variable}={text} is refused");
            let fault = only_fault(&case, with(&[(variable, text)]));
            assert!(
                fault.starts_with(&format!("`{variable}` holds `{text}`: ")),
                "{case}: {fault}"
            );
        }
    }
    // The longest cooldown leaves room for one attempt in the longest window.
    let longest = [
        ("REDRIVE_COOLDOWN", "7d"),
        ("REDRIVE_MAX_ATTEMPTS", "1"),
        ("REDRIVE_ATTEMPT_WINDOW", "14d"),
    ];
    assert!(with(&longest).is_ok(), "{:?}", with(&longest));
}

#[test]
fn durations_are_read_as_people_write_them() {
    for (text, seconds) in [
        ("90s", Some(90)),
        ("15m", Some(900)),
        ("15min", Some(900)),
        ("1h", Some(3600)),
        ("1h 30m", Some(5400)),
        ("1h30m", Some(5400)),
        ("  2h  ", Some(7200)),
        ("2d", Some(172_800)),
        ("1 day", Some(86_400)),
        ("1w", Some(604_800)),
        ("900", None),
        ("h", None),
        ("PT15M", None),
        ("1:30", None),
        ("99999999999999999999s", None),
        ("18446744073709551615d", None),
    ] {
        let read = with(&[("REDRIVE_PATIENCE", text)]).map(|config| config.policy.patience);
        assert_eq!(read.ok(), seconds.map(Duration::from_secs), "{text}");
    }
}

#[test]
fn queues_are_separated_by_commas_or_white_space_and_each_counts_once() {
    let both = [arn(DLQ), arn(OTHER_DLQ)];
    for (how, text) in [
        ("comma", format!("{DLQ},{OTHER_DLQ}")),
        ("space", format!("{DLQ} {OTHER_DLQ}")),
        ("lines", format!("\n  {DLQ}\n  {OTHER_DLQ}\n")),
        ("comma and space", format!("{DLQ}, {OTHER_DLQ}")),
        ("tabs", format!("{DLQ}\t\t{OTHER_DLQ}")),
        ("comma at either end", format!(",{DLQ},,{OTHER_DLQ},")),
        ("one twice", format!("{DLQ},{OTHER_DLQ},{DLQ}")),
    ] {
        let config = read(&[("REDRIVE_QUEUES", &text)]);
        assert_eq!(
            config.map(|config| config.queues),
            Ok(both.to_vec()),
            "{how}"
        );
    }
}

#[test]
fn wrong_arn_among_right_ones_is_named_alone() {
    let table = [
        ("arn:aws:sns:eu-west-1:123456789012:orders", "`sns`"),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "`lambda`",
        ),
        ("arn:aws:sqs:EU:123456789012:orders", "`EU`"),
        ("arn:aws:sqs:eu-west-1:1234:orders", "`1234`"),
        ("arn:aws:sqs:eu-west-1:123456789012:or.ders", "`or.ders`"),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/orders",
            "queue ARN",
        ),
    ];
    for (wrong, culprit) in table {
        let list = format!("{DLQ},{wrong},{OTHER_DLQ}");
        let fault = only_fault(wrong, read(&[("REDRIVE_QUEUES", &list)]));
        assert!(
            fault.starts_with(&format!("`REDRIVE_QUEUES` holds `{wrong}`: ")),
            "{wrong}: {fault}"
        );
        assert!(fault.contains(culprit), "{wrong}: {fault}");
        for variable in ["REDRIVE_DESTINATION_ARN", "REDRIVE_PARKING_ARN"] {
            let fault = only_fault(wrong, with(&[(variable, wrong)]));
            assert!(
                fault.starts_with(&format!("`{variable}` holds `{wrong}`: "))
                    && fault.contains(culprit),
                "{wrong}: {fault}"
            );
        }
    }
    // Each wrong one is a fault of its own.
    let all: Vec<&str> = table.iter().map(|(wrong, _)| *wrong).collect();
    let all = faults(read(&[("REDRIVE_QUEUES", &all.join(" "))]));
    assert_eq!(all.len(), table.len(), "{all:?}");
}

#[test]
fn empty_variable_counts_as_not_set() {
    let names: Vec<String> = SETTINGS
        .iter()
        .map(|(name, _)| format!("REDRIVE_{}", name.to_uppercase().replace('-', "_")))
        .chain(
            [
                "REDRIVE_ENROLL_TAG",
                "REDRIVE_MAX_STARTS",
                "REDRIVE_CONCURRENCY",
            ]
            .map(Into::into),
        )
        .collect();
    for name in &names {
        for empty in ["", "  ", "\n"] {
            assert_eq!(with(&[(name, empty)]), with(&[]), "{name}={empty:?}");
        }
    }
}

#[test]
fn neither_list_nor_tag_is_a_fault() {
    let table: [(&str, Vars); 3] = [
        ("nothing set", &[]),
        (
            "empty",
            &[("REDRIVE_QUEUES", ""), ("REDRIVE_ENROLL_TAG", " ")],
        ),
        ("others set", &[("REDRIVE_PAUSED", "true")]),
    ];
    for (case, vars) in table {
        let fault = only_fault(case, read(vars));
        assert!(
            fault.starts_with("`REDRIVE_QUEUES` is not set: ")
                && fault.contains("`REDRIVE_ENROLL_TAG`"),
            "{case}: {fault}"
        );
    }
    for vars in [("REDRIVE_QUEUES", DLQ), ("REDRIVE_ENROLL_TAG", "k")] {
        assert!(read(&[vars]).is_ok(), "{vars:?} suffices");
    }
}

/// A list of separators names no queue: a function that may touch nothing must not go unnoticed.
#[test]
fn list_that_names_no_queue_is_a_fault() {
    for list in [",", " , ", ",,"] {
        let fault = only_fault(list, read(&[("REDRIVE_QUEUES", list)]));
        assert!(fault.starts_with("`REDRIVE_QUEUES` "), "{list}: {fault}");
    }
}

#[test]
fn mistyped_variable_is_a_fault_and_foreign_ones_are_not() {
    for mistyped in [
        "REDRIVE_PAUSE",
        "REDRIVE_QUEUE",
        "REDRIVE_",
        "REDRIVE_paused",
        "redrive_paused",
        "REDRIVE",
        "REDRIVE-PAUSED",
    ] {
        let fault = only_fault(mistyped, with(&[(mistyped, "true")]));
        assert!(
            fault.starts_with(&format!(
                "`{mistyped}` holds `true`: there is no such variable"
            )),
            "{mistyped}: {fault}"
        );
    }
    for foreign in ["PATH", "AWS_REGION", "MY_REDRIVE_PAUSED", ""] {
        assert_eq!(with(&[(foreign, "true")]), with(&[]), "{foreign}");
    }
}

#[test]
fn destination_that_sqs_would_refuse_is_a_fault_naming_both_queues() {
    for variable in ["REDRIVE_DESTINATION_ARN", "REDRIVE_PARKING_ARN"] {
        for (destination, why) in [
            (OTHER_DLQ, "enrolled in `REDRIVE_QUEUES`"),
            (FIFO, "of different types"),
            (ELSEWHERE, "not in the partition, account and region"),
            (ANOTHERS, "not in the partition, account and region"),
        ] {
            let case = format!("{variable}={destination}");
            let list = format!("{DLQ},{OTHER_DLQ}");
            let result = read(&[("REDRIVE_QUEUES", &list), (variable, destination)]);
            let found = faults(result);
            // A DLQ among the listed ones is the same fault for all of them.
            let at_fault = if destination == OTHER_DLQ {
                vec![OTHER_DLQ]
            } else {
                vec![DLQ, OTHER_DLQ]
            };
            assert_eq!(found.len(), at_fault.len(), "{case}: {found:?}");
            for (fault, dlq) in found.iter().zip(at_fault) {
                let text = fault.to_string();
                assert!(
                    text.starts_with(&format!("`{variable}` holds `{destination}`: "))
                        && text.contains(why)
                        && text.contains(dlq),
                    "{case}: {text}"
                );
            }
        }
        assert!(with(&[(variable, ORDERS)]).is_ok(), "{variable}={ORDERS}");
    }
}

#[test]
fn standard_destination_of_a_fifo_dlq_is_a_fault() {
    let fifo_dlq = "arn:aws:sqs:eu-west-1:123456789012:orders-dlq.fifo";
    let vars = |destination| {
        [
            ("REDRIVE_QUEUES", fifo_dlq),
            ("REDRIVE_DESTINATION_ARN", destination),
        ]
    };
    let fault = only_fault("standard", read(&vars(ORDERS)));
    assert!(
        fault.contains(fifo_dlq) && fault.contains(ORDERS),
        "{fault}"
    );
    assert!(read(&vars(FIFO)).is_ok());
}

#[test]
fn enroll_tag_is_a_key_or_a_key_with_its_value() {
    let tag = |key: &str, value: Option<&str>| EnrollTag {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    let (key_128, value_256) = ("k".repeat(128), "v".repeat(256));
    let longest = format!("{key_128}={value_256}");
    for (text, expected) in [
        ("auto-redrive", tag("auto-redrive", None)),
        ("auto-redrive=enabled", tag("auto-redrive", Some("enabled"))),
        (
            "auto-redrive = enabled",
            tag("auto-redrive", Some("enabled")),
        ),
        (
            "team/redrive=yes: please",
            tag("team/redrive", Some("yes: please")),
        ),
        ("formula=a=b", tag("formula", Some("a=b"))),
        (&longest, tag(&key_128, Some(&value_256))),
        (&"ü".repeat(128), tag(&"ü".repeat(128), None)),
    ] {
        let config = read(&[("REDRIVE_ENROLL_TAG", text)]);
        assert_eq!(
            config.map(|config| config.enroll_tag),
            Ok(Some(expected)),
            "{text}"
        );
    }
    for (why, text) in [
        ("no key", "=enabled".to_owned()),
        ("colon in the key", "auto:redrive=enabled".to_owned()),
        ("reserved by AWS", "aws:redrive".to_owned()),
        ("reserved by AWS, in capitals", "AWS:redrive=on".to_owned()),
        ("key too long", "k".repeat(129)),
        (
            "key too long, with a value",
            format!("{}=v", "k".repeat(129)),
        ),
        ("value too long", format!("k={}", "v".repeat(257))),
    ] {
        let fault = only_fault(why, read(&[("REDRIVE_ENROLL_TAG", &text)]));
        assert!(
            fault.starts_with(&format!(
                "`REDRIVE_ENROLL_TAG` holds `{}",
                text.get(..90).unwrap_or(&text)
            )) && fault.contains("128 characters"),
            "{why}: {fault}"
        );
    }
}

#[test]
fn alarm_names_may_have_spaces_and_are_separated_by_commas() {
    let longest = "a".repeat(255);
    for (text, names) in [
        ("orders 5xx", vec!["orders 5xx"]),
        (
            "orders: 5xx rate, payments down",
            vec!["orders: 5xx rate", "payments down"],
        ),
        (" a ,\n b,", vec!["a", "b"]),
        (&longest, vec![&*longest]),
    ] {
        let config = with(&[("REDRIVE_BRAKE_ALARMS", text)]).unwrap();
        assert_eq!(config.policy.brake_alarms, names, "{text}");
    }
    for text in [",", " , ", &format!("a,{}", "b".repeat(256))] {
        let fault = only_fault(text, with(&[("REDRIVE_BRAKE_ALARMS", text)]));
        assert!(fault.contains("separated by commas"), "{text}: {fault}");
    }
}

#[test]
fn attempts_that_do_not_fit_into_the_window_are_a_fault() {
    let table: [(Vars, bool); 6] = [
        (&[("REDRIVE_COOLDOWN", "4h")], true),
        (&[("REDRIVE_COOLDOWN", "4h 1s")], false),
        (&[("REDRIVE_ATTEMPT_WINDOW", "90m")], true),
        (&[("REDRIVE_ATTEMPT_WINDOW", "89m")], false),
        (
            &[("REDRIVE_COOLDOWN", "3h"), ("REDRIVE_MAX_ATTEMPTS", "8")],
            false,
        ),
        (
            &[
                ("REDRIVE_COOLDOWN", "3h"),
                ("REDRIVE_MAX_ATTEMPTS", "8"),
                ("REDRIVE_ATTEMPT_WINDOW", "27h"),
            ],
            true,
        ),
    ];
    for (vars, fits) in table {
        if fits {
            assert!(with(vars).is_ok(), "{vars:?}: {:?}", with(vars));
        } else {
            let fault = only_fault(&format!("{vars:?}"), with(vars));
            let said = [
                "`REDRIVE_ATTEMPT_WINDOW`",
                "attempts with a cooldown of",
                "cooldowns",
            ];
            assert!(
                said.iter().all(|said| fault.contains(said)),
                "{vars:?}: {fault}"
            );
        }
    }
}

#[test]
fn pace_of_1_beside_a_sample_is_a_fault() {
    let pace = ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1");
    for vars in [&[pace][..], &[pace, ("REDRIVE_SAMPLE", "10")]] {
        let fault = only_fault("a pace of 1", with(vars));
        assert_eq!(
            fault,
            "`REDRIVE_MAX_MESSAGES_PER_SECOND` holds `1`: a rate of 1 message a second is that of samples; set 2 to 500 or `auto`, or turn samples off (`REDRIVE_SAMPLE=0`)"
        );
    }
    let without = with(&[pace, ("REDRIVE_SAMPLE", "0")]).unwrap();
    assert_eq!(without.policy.max_messages_per_second, Rate::new(1));
}

#[test]
fn attempts_that_sqs_list_has_no_room_for_are_a_fault_only_beside_a_sample_that_is_set() {
    for attempts in ["6", "9"] {
        let attempts = ("REDRIVE_MAX_ATTEMPTS", attempts);
        let fault = only_fault("set", with(&[attempts, ("REDRIVE_SAMPLE", "20")]));
        let expected = format!(
            "`REDRIVE_MAX_ATTEMPTS` holds `{}`: at most 5 attempts count, not {}: SQS lists ten tasks, an attempt with a sample takes two of them, and canceled tasks take places too; set 1 to 5",
            attempts.1, attempts.1
        );
        assert_eq!(fault, expected);
        assert!(with(&[attempts]).is_ok());
        assert!(with(&[attempts, ("REDRIVE_SAMPLE", "")]).is_ok());
    }
    let nine = [("REDRIVE_MAX_ATTEMPTS", "9"), ("REDRIVE_SAMPLE", "0")];
    assert!(with(&nine).is_ok());
    let five = [("REDRIVE_MAX_ATTEMPTS", "5"), ("REDRIVE_SAMPLE", "20")];
    assert!(with(&five).is_ok());
}

#[test]
fn parking_queue_that_is_also_the_destination_is_a_fault() {
    let parked = "arn:aws:sqs:eu-west-1:123456789012:parked";
    let vars = [
        ("REDRIVE_DESTINATION_ARN", parked),
        ("REDRIVE_PARKING_ARN", parked),
    ];
    let fault = only_fault("both", with(&vars));
    assert!(
        fault.contains("`REDRIVE_PARKING_ARN`") && fault.contains("is also the destination"),
        "{fault}"
    );
}

#[test]
fn fault_shows_a_value_on_one_line_and_cut_to_100_characters() {
    let text = format!("ye\ns\r\t\u{7}\u{1b}[31m{}", "x".repeat(500));
    for variable in [
        "REDRIVE_PAUSED",
        "REDRIVE_MIN_MESSAGES",
        "REDRIVE_COOLDOWN",
        "REDRIVE_PAUSE",
    ] {
        let fault = only_fault(variable, with(&[(variable, &text)]));
        assert!(!fault.contains(char::is_control), "{variable}: {fault:?}");
        let shown = fault.split('`').nth(3).unwrap();
        assert!(
            shown.starts_with("ye\\ns\\r\\t\\u{7}\\u{1b}[31mxxx"),
            "{variable}: {shown}"
        );
        assert!(shown.ends_with("xxx…"), "{variable}: {shown}");
        assert_eq!(shown.chars().count(), 101, "{variable}: {shown}");
    }
}

#[test]
fn fault_shows_the_name_of_an_unknown_variable_on_one_line_and_cut() {
    let name = format!("REDRIVE_\nERROR\u{2028}{}", "X".repeat(500));
    let fault = only_fault("unknown", with(&[(&name, "true")]));
    let shown = fault.split('`').nth(1).unwrap();
    assert!(shown.starts_with("REDRIVE_\\nERROR\\u{2028}XXX"), "{shown}");
    assert_eq!(shown.chars().count(), 101, "{shown}");
}

/// The error about an ARN quotes a part of it, and others wrote that text.
#[test]
fn fault_of_an_arn_shows_its_parts_on_one_line_and_cut() {
    let long = "x".repeat(500);
    for (part, text) in [
        (
            "name",
            format!("arn:aws:sqs:eu-west-1:123456789012:\u{1b}[31m{long}"),
        ),
        (
            "account",
            format!("arn:aws:sqs:eu-west-1:\u{1b}[31m{long}:orders"),
        ),
        (
            "region",
            format!("arn:aws:sqs:\u{1b}[31m{long}:123456789012:orders"),
        ),
        (
            "service",
            format!("arn:aws:\u{1b}[31m{long}:eu-west-1:123456789012:orders"),
        ),
    ] {
        for variable in ["REDRIVE_QUEUES", "REDRIVE_PARKING_ARN"] {
            let vars = [("REDRIVE_ENROLL_TAG", "k"), (variable, &text)];
            let fault = only_fault(part, read(&vars));
            assert!(
                !fault.contains(char::is_control),
                "{part}, {variable}: {fault:?}"
            );
            let longest = fault.split('`').map(|quote| quote.chars().count()).max();
            assert!(longest <= Some(160), "{part}, {variable}: {fault}");
        }
    }
}

/// A cooldown that cannot be read says nothing about the window, so its default causes no fault.
#[test]
fn fault_of_one_setting_brings_no_second_one_with_it() {
    let vars = [
        ("REDRIVE_COOLDOWN", "30s"),
        ("REDRIVE_ATTEMPT_WINDOW", "10m"),
    ];
    let fault = only_fault("cooldown refused", with(&vars));
    assert!(fault.starts_with("`REDRIVE_COOLDOWN`"), "{fault}");
    let vars = [
        ("REDRIVE_SAMPLE", "31"),
        ("REDRIVE_MAX_ATTEMPTS", "9"),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
    ];
    let fault = only_fault("sample refused", with(&vars));
    assert!(fault.starts_with("`REDRIVE_SAMPLE`"), "{fault}");
}

#[test]
fn documentation_explains_every_variable() {
    let document = include_str!("../../docs/configuration.md");
    let (_, rest) = document.split_once("<!-- variables -->").unwrap();
    let (table, _) = rest.split_once("<!-- /variables -->").unwrap();
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    let mut explained: Vec<String> = rows
        .map(|row| row.split_once('`').unwrap().0.to_owned())
        .collect();
    explained.sort();

    let policy = SETTINGS
        .iter()
        .map(|(name, _)| name.to_uppercase().replace('-', "_"));
    let others = [
        "QUEUES",
        "ENROLL_TAG",
        "MAX_STARTS",
        "CONCURRENCY",
        "SCHEDULE",
    ]
    .map(str::to_owned);
    let mut all: Vec<String> = policy
        .into_iter()
        .chain(others)
        .map(|name| format!("{PREFIX}{name}"))
        .collect();
    all.sort();
    assert_eq!(explained, all);
}

#[test]
fn schedule_that_is_too_slow_for_the_attempts_is_a_fault() {
    let faults = |schedule: &str| {
        let vars = [("REDRIVE_QUEUES", DLQ), ("REDRIVE_SCHEDULE", schedule)];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::from_vars(vars)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for fine in [
        "rate(5 minutes)",
        "rate(1 minute)",
        "rate(4 hours)",
        // Its interval is not known.
        "cron(0 3 * * ? *)",
        "at(2026-11-20T13:00:00)",
        "rate(5 fortnights)",
        "rate(99999999999999999999 hours)",
        "",
    ] {
        assert_eq!(faults(fine), Ok(()), "{fine}");
    }
    for slow in [
        "rate(5 hours)",
        "rate(289 minutes)",
        "rate(1 day)",
        "rate(4294967295 days)",
    ] {
        let why = faults(slow).unwrap_err();
        let start = "configuration: `REDRIVE_SCHEDULE` holds `";
        assert!(
            why.starts_with(start) && why.contains("is too slow for 5 attempts"),
            "{why}"
        );
    }
    let why = faults("rate(6 hours)").unwrap_err();
    assert!(
        why.ends_with("wake the function more often, or make the window at least 1day 6h"),
        "{why}"
    );
}
