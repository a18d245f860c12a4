//! What each file of `src/` may name, and what it must not do. `src/lib.rs` promises these rules.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each pure file, with the only paths it may name outside itself: no I/O, no clock, no JSON, no
/// AWS and no log. A path stands for everything below it.
#[rustfmt::skip]
const PURE: &[(&str, &[&str])] = &[
    ("src/codes.rs", &["serde"]),
    ("src/config.rs", &[
        "crate::policy", "crate::queue", "crate::text", "humantime", "std::collections", "std::fmt", "std::ops",
        "std::str", "std::time", "thiserror",
    ]),
    ("src/decision.rs", &[
        "crate::fall", "crate::metrics", "crate::observation", "crate::plan::Cause", "crate::policy", "crate::queue",
        "crate::verdict", "std::time",
    ]),
    ("src/enrollment.rs", &[
        "crate::config", "crate::event::request", "crate::policy", "crate::queue", "crate::text", "std::collections",
        "std::sync::Arc", "std::time",
    ]),
    ("src/fall.rs", &["crate::queue", "std::time"]),
    ("src/metrics.rs", &["crate::queue", "std::time"]),
    ("src/observation.rs", &["crate::fall", "crate::metrics", "crate::queue", "std::time"]),
    // An outcome may be an error of a port.
    ("src/outcome.rs", &[
        "crate::aws_error", "crate::codes", "crate::decision", "crate::fall", "crate::plan", "crate::queue",
        "crate::sqs::SqsError", "crate::tagging::TaggingError", "crate::text", "crate::verdict", "humantime", "std::fmt",
        "std::time",
    ]),
    ("src/plan.rs", &[
        "crate::codes", "crate::event::Trigger", "crate::event::alarm", "crate::event::request", "crate::queue",
        "crate::text", "std::collections",
    ]),
    ("src/policy.rs", &["crate::queue", "humantime", "std::time", "thiserror"]),
    ("src/queue.rs", &["crate::text", "std::collections", "std::fmt", "std::str", "std::sync::Arc", "std::time", "thiserror"]),
    ("src/text.rs", &["std::error"]),
    ("src/verdict.rs", &[
        "crate::fall", "crate::metrics", "crate::observation", "crate::policy", "crate::queue", "std::time",
    ]),
];

/// Each of the other files, likewise. Only the files of `event` know the shapes of AWS's events,
/// and only a port knows the SDK of its service.
#[rustfmt::skip]
const OTHERS: &[(&str, &[&str])] = &[
    ("src/ask.rs", &[
        "crate::cloudwatch", "crate::deadlines", "crate::decision", "crate::fall", "crate::look", "crate::memory", "crate::metrics",
        "crate::observation", "crate::queue", "crate::sqs", "crate::verdict", "futures_util", "std", "tokio",
    ]),
    // Its types of errors are those of all three SDKs.
    ("src/aws_error.rs", &["aws_credential_types", "aws_sdk_sqs::error", "crate::text", "std"]),
    ("src/cancel.rs", &[
        "crate::config", "crate::deadlines", "crate::enrollment", "crate::outcome", "crate::plan", "crate::queue",
        "crate::sqs", "futures_util", "tokio",
    ]),
    ("src/cloudwatch.rs", &[
        "aws_config", "aws_sdk_cloudwatch", "crate::aws_error", "crate::metrics", "crate::observation", "crate::queue",
        "crate::sender", "futures_util", "std", "tokio",
    ]),
    ("src/deadlines.rs", &["std", "tokio"]),
    ("src/event.rs", &["crate::text", "serde", "serde_json", "thiserror"]),
    ("src/event/alarm.rs", &["crate::queue", "crate::text", "serde", "serde_json", "std", "super", "thiserror"]),
    ("src/event/envelope.rs", &["aws_lambda_events", "crate::text", "serde", "serde_json", "super"]),
    ("src/event/request.rs", &[
        "crate::policy", "crate::queue", "crate::text", "serde", "serde_json", "serde_path_to_error", "std::time",
    ]),
    ("src/handler.rs", &[
        "crate::cancel", "crate::cloudwatch", "crate::config", "crate::deadlines", "crate::enrollment",
        "crate::event", "crate::look", "crate::memory", "crate::observation", "crate::outcome", "crate::plan", "crate::queue",
        "crate::redrive", "crate::report", "crate::sqs", "crate::tagging", "crate::text", "crate::turns", "lambda_runtime", "serde_json", "std", "thiserror", "tokio",
    ]),
    ("src/lib.rs", &[]),
    ("src/look.rs", &[
        "crate::config", "crate::deadlines", "crate::decision", "crate::enrollment", "crate::memory", "crate::metrics",
        "crate::observation", "crate::outcome", "crate::queue", "crate::sqs", "futures_util", "std", "tokio",
    ]),
    ("src/main.rs", &[
        "lambda_runtime", "serde_json", "sqs_auto_redrive", "std", "tokio", "tracing_subscriber",
    ]),
    ("src/memory.rs", &["crate::fall", "crate::queue", "std"]),
    ("src/redrive.rs", &[
        "crate::ask", "crate::cancel", "crate::cloudwatch", "crate::decision", "crate::enrollment", "crate::look",
        "crate::observation", "crate::outcome", "crate::plan", "crate::sqs", "crate::start", "futures_util", "std", "tokio",
    ]),
    ("src/report.rs", &[
        "crate::decision", "crate::event::request", "crate::fall", "crate::outcome", "crate::plan", "crate::queue", "crate::text",
        "humantime", "serde", "serde_json", "std", "tracing",
    ]),
    // The types of its hooks are those of all three SDKs.
    ("src/sender.rs", &["aws_runtime", "aws_sdk_sqs::config", "aws_sdk_sqs::error", "aws_smithy_runtime_api"]),
    ("src/setup.rs", &[
        "aws_config", "aws_credential_types", "aws_smithy_http_client", "aws_smithy_runtime_api", "crate::cloudwatch",
        "crate::config", "crate::handler", "crate::sqs", "crate::tagging", "crate::tls", "std",
        "tracing",
    ]),
    ("src/sqs.rs", &[
        "aws_config", "aws_sdk_sqs", "crate::aws_error", "crate::decision", "crate::fall", "crate::queue", "crate::sender",
        "crate::text", "serde", "serde_json", "std", "thiserror", "tokio",
    ]),
    ("src/start.rs", &[
        "crate::cloudwatch", "crate::deadlines", "crate::decision", "crate::enrollment", "crate::fall",
        "crate::look", "crate::memory", "crate::outcome", "crate::policy", "crate::queue", "crate::sqs",
        "crate::verdict",
        "futures_util", "std", "tokio",
    ]),
    ("src/tagging.rs", &[
        "aws_config", "aws_sdk_resourcegroupstagging", "crate::aws_error", "crate::config", "crate::queue", "crate::sender",
        "std", "thiserror",
    ]),
    ("src/turns.rs", &["crate::enrollment", "crate::outcome", "crate::queue", "std"]),
    ("src/tls.rs", &["aws_smithy_http_client", "crate::config", "rustls", "std"]),
];

/// One rule: where it holds, the tokens it forbids there, and why.
struct Rule {
    holds_in: fn(&str) -> bool,
    /// Tokens as [`tokens`] returns them, separated by blanks.
    forbidden: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        holds_in: |path| PURE.iter().any(|(pure, _)| *pure == path),
        forbidden: &[":: now", "elapsed (", "Instant"],
        why: "a pure file reads no clock: the time is an argument",
    },
    Rule {
        holds_in: |path| path != "src/handler.rs",
        forbidden: &["SystemTime :: now", "SystemTime as"],
        why: "only handler.rs reads the time",
    },
    Rule {
        holds_in: |path| path != "src/handler.rs",
        forbidden: &["println !"],
        why: "only handler.rs prints, and only the metrics; everything else is logged",
    },
    Rule {
        holds_in: |_| true,
        forbidden: &["print !", "eprint !", "eprintln !", "dbg !"],
        why: "messages are logged, not printed",
    },
    Rule {
        holds_in: |_| true,
        forbidden: &["todo !", "unimplemented !"],
        why: "nothing is half built",
    },
];

/// The most lines of a function.
const MAX_LINES: usize = 50;

#[test]
fn every_file_names_only_what_it_may_and_breaks_no_rule() {
    let files = rust_files("src");
    let mut broken = Vec::new();
    for (path, source) in files.iter().chain(&rust_files("tests")) {
        broken.extend(breaches(path, source));
    }
    for (path, allowed) in PURE.iter().chain(OTHERS) {
        let Some((_, source)) = files.iter().find(|(file, _)| file == path) else {
            broken.push(format!("{path} is in the list but not in src/"));
            continue;
        };
        let named = paths(&without_tests(parse(source)));
        let unused = allowed
            .iter()
            .filter(|allowed| !named.iter().any(|(_, path)| is_below(path, allowed)));
        broken.extend(unused.map(|unused| format!("{path} may name `{unused}` but does not")));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn time_is_read_once() {
    let source = fs::read_to_string("src/handler.rs").unwrap();
    let readings = find(&tokens(without_tests(parse(&source))), "SystemTime :: now");
    assert_eq!(readings.len(), 1, "in the lines {readings:?}");
}

#[test]
fn lib_lists_every_module() {
    let lib = fs::read_to_string("src/lib.rs").unwrap();
    let modules: BTreeSet<String> = find_modules(&lib).into_iter().collect();
    let (_, table) = lib.split_once("//! | module | what it does |").unwrap();
    let rows = table.lines().take_while(|line| !line.ends_with("//!"));
    let rows = rows.filter_map(|row| Some(row.split('`').nth(1)?.to_owned()));
    assert_eq!(rows.collect::<BTreeSet<String>>(), modules);
    let files = PURE.iter().chain(OTHERS).map(|(path, _)| *path);
    let files = files.filter_map(|path| path.strip_prefix("src/")?.strip_suffix(".rs"));
    let files = files.filter(|name| !name.contains('/') && !["lib", "main"].contains(name));
    assert_eq!(files.map(str::to_owned).collect::<BTreeSet<_>>(), modules);
}

/// The modules that a file declares outside tests.
fn find_modules(source: &str) -> Vec<String> {
    let tokens = tokens(without_tests(parse(source)));
    let declared = tokens.windows(2).filter(|pair| pair[0].1 == "mod");
    declared.map(|pair| pair[1].1.clone()).collect()
}

/// What is wrong with a file, and where.
fn breaches(path: &str, source: &str) -> Vec<String> {
    let all = parse(source);
    let ignored = find(&tokens(all.clone()), "# [ ignore").into_iter();
    let mut broken: Vec<String> = ignored
        .map(|line| format!("{path}:{line}: no test is ignored"))
        .collect();
    // Tests in files of their own.
    let is_tests = path.ends_with("/tests.rs") || path.contains("/tests/") || path == "src/wire.rs";
    if is_tests || !path.starts_with("src/") {
        return broken;
    }
    let code = without_tests(all);
    let mut files = PURE.iter().chain(OTHERS);
    match files.find(|(file, _)| *file == path) {
        None => broken.push(format!(
            "{path}: list this file in tests/it/layout.rs, with what it may name"
        )),
        Some((_, allowed)) => {
            let named = paths(&code).into_iter();
            let others =
                named.filter(|(_, path)| !allowed.iter().any(|allowed| is_below(path, allowed)));
            broken.extend(
                others.map(|(line, name)| format!("{path}:{line}: it may not name `{name}`")),
            );
        }
    }
    for (line, name, lines) in functions(&code) {
        if lines > MAX_LINES {
            broken.push(format!("{path}:{line}: `{name}` has {lines} lines"));
        }
    }
    let tokens = tokens(code);
    for rule in RULES.iter().filter(|rule| (rule.holds_in)(path)) {
        for words in rule.forbidden {
            let lines = find(&tokens, words).into_iter();
            broken.extend(
                lines.map(|line| {
                    format!("{path}:{line}: `{}`: {}", words.replace(' ', ""), rule.why)
                }),
            );
        }
    }
    broken
}

/// All Rust files below a folder of the project: path and text.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap().path();
        let path = format!("{folder}/{}", entry.file_name().unwrap().to_str().unwrap());
        if entry.is_dir() {
            files.extend(rust_files(&path));
        } else if path.ends_with(".rs") {
            files.push((path, fs::read_to_string(&entry).unwrap()));
        }
    }
    files.sort();
    files
}

fn parse(source: &str) -> Vec<TokenTree> {
    let stream: TokenStream = source.parse().unwrap();
    stream.into_iter().collect()
}

/// The code without the items after `#[cfg(test)]`.
fn without_tests(code: Vec<TokenTree>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut code = code.into_iter();
    while let Some(tree) = code.next() {
        if tree.to_string().replace(' ', "") != "[cfg(test)]" {
            kept.push(tree);
            continue;
        }
        kept.pop(); // The `#`.
        // The item ends with a semicolon or a block.
        code.find(|tree| tree.to_string() == ";" || is_block(tree));
    }
    kept
}

fn is_block(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// The tokens with their lines: words, `::`, and single characters. Comments are left out, and the
/// contents of literals.
fn tokens(code: impl IntoIterator<Item = TokenTree>) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for tree in code {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push((line, open.to_owned()));
                tokens.extend(self::tokens(group.stream()));
                tokens.push((group.span_close().start().line, close.to_owned()));
            }
            TokenTree::Literal(_) => tokens.push((line, "literal".to_owned())),
            TokenTree::Ident(word) => {
                let word = word.to_string();
                tokens.push((line, word.trim_start_matches("r#").to_owned()));
            }
            TokenTree::Punct(punct) => match tokens.last_mut() {
                Some((_, before)) if punct.as_char() == ':' && before == ":" => before.push(':'),
                _ => tokens.push((line, punct.to_string())),
            },
        }
    }
    tokens
}

/// The lines in which these tokens stand one after another.
fn find(tokens: &[(usize, String)], words: &str) -> Vec<usize> {
    let words: Vec<&str> = words.split(' ').collect();
    let found = tokens.windows(words.len()).filter(|window| {
        let mut pairs = window.iter().zip(&words);
        pairs.all(|((_, token), word)| token == word)
    });
    found.map(|window| window[0].0).collect()
}

/// The paths that begin outside the file: with a crate, `crate` or `super`. A group of a `use` ends
/// a path.
fn paths(code: &[TokenTree]) -> Vec<(usize, String)> {
    let roots = roots();
    let tokens = tokens(code.to_vec());
    let at = |n: usize| tokens.get(n).map_or("", |(_, token)| token.as_str());
    let mut paths = Vec::new();
    for (n, (line, root)) in tokens.iter().enumerate() {
        // `pub(crate)` and `$crate` name nothing, and neither does a field or a method.
        let is_visibility = at(n + 1) == ")" && n > 1 && at(n - 2) == "pub";
        let is_other = n > 0 && [".", "$"].contains(&at(n - 1));
        if !roots.contains(root) || is_visibility || is_other {
            continue;
        }
        let mut path = root.clone();
        let mut end = n + 1;
        while at(end) == "::" {
            path = format!("{path}::{}", at(end + 1));
            end += 2;
        }
        paths.push((*line, path));
    }
    paths
}

/// The first words of the paths that lead out of a file: the dependencies of Cargo.toml, and Rust's
/// own.
fn roots() -> BTreeSet<String> {
    let manifest = include_str!("../../Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = rest.split_once("\n[").unwrap();
    let names = dependencies
        .lines()
        .filter_map(|line| line.split_once(" ="));
    let names = names.map(|(name, _)| name.replace('-', "_"));
    let rusts = ["std", "core", "alloc", "crate", "super", "sqs_auto_redrive"];
    names.chain(rusts.map(str::to_owned)).collect()
}

fn is_below(path: &str, allowed: &str) -> bool {
    let below = path.strip_prefix(allowed);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every function with a body: its line, its name, and its number of lines.
fn functions(code: &[TokenTree]) -> Vec<(usize, String, usize)> {
    let mut functions = Vec::new();
    for (n, tree) in code.iter().enumerate() {
        match tree {
            TokenTree::Group(group) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                functions.extend(self::functions(&inside));
            }
            TokenTree::Ident(word) if word == "fn" => {
                // A function without a body ends with a semicolon.
                let mut after = code[n..].iter().take_while(|tree| tree.to_string() != ";");
                if let Some(body) = after.find(|tree| is_block(tree)) {
                    let line = word.span().start().line;
                    let lines = body.span().end().line - line + 1;
                    functions.push((line, code[n + 1].to_string(), lines));
                }
            }
            _ => {}
        }
    }
    functions
}

#[test]
fn every_rule_finds_what_breaks_it_and_nothing_else() {
    #[rustfmt::skip]
    let broken = [
        "use tokio::time::Instant;", "use tracing::info;", "use tracing_subscriber::fmt;",
        "use serde_json::Value;", "use aws_sdk_sqs::Client;", "fn f() -> aws_config::X {}",
        "use ::aws_config::SdkConfig;", "use lambda_runtime::Context;", "fn f() { std::env::var(x); }",
        "use std::fs;", "use std::net::TcpStream;", "use std::{fmt, env};", "use std as s;",
        "use tokio;", "use tokio as t;", "use {tokio::net};", "extern crate tokio;", "use std::*;", "use core::fmt;",
        "fn f() { tokio::select! {} }", "#[tokio::main] fn f() {}", "macro_rules! m { () => { std::fs::read(x) } }",
        "fn f() { SystemTime::now() }", "fn f() { std::time::Instant::now() }", "fn f() { T ::\nnow() }",
        "fn f() { start.elapsed() }", "fn f() { println!() }", "use crate::sqs::SqsClients;",
        "use crate::sqs;", "use crate::sqs::{self, SqsError};", "use crate::{handler};", "use crate as c;",
        "use crate::redrive;", "use crate::a_new_module::X;", "fn f() { crate::handler::run() }", "use super::handler;",
        "fn f() { todo!() }", "fn f() { unimplemented!() }",
        "#[cfg(test)] mod tests { fn f() {} } use tokio::net;", "#[cfg(test)] mod tests; use tokio::net;",
        "#[cfg(test)] use a::{b, c}; use tokio::net;", "const C: char = '\"'; use tokio::net;",
        "const R: &str = r#\"\"#; use tokio::net;", "/* /* */ */ use tokio::net;", "// x\nuse tokio::net;",
        "fn f<'a>(c: &'a str) {} use tokio::net;", "const C: char = '\\''; use tokio::net;",
    ];
    for (path, _) in PURE {
        for source in broken {
            assert!(
                !breaches(path, source).is_empty(),
                "{path} may not have: {source}"
            );
        }
    }
    #[rustfmt::skip]
    let fine = [
        "/// tokio, aws_sdk_sqs, println!\nfn f() {}", "// SystemTime::now()", "/* todo!() /* std::env */ std::fs */",
        "const S: &str = \"std::env tokio\";", "const S: &str = r#\"a \" tokio\"#;",
        "#[cfg(test)] mod tests { use tokio::net; fn f() { {} } }", "#[cfg(test)] fn f(a: [u8; 2]) { todo!() }",
        "fn f(now: SystemTime) { now.duration_since(x) }", "fn in_std_env() { my_tokio(x.tokio) }",
        "const S: &str = \"\\\"\"; // tokio", "pub(crate) fn f() {}", "pub(super) fn f() {}", "use self::inner::X;",
    ];
    for (path, _) in PURE {
        for source in fine {
            assert_eq!(breaches(path, source), [""; 0], "{path} may have: {source}");
        }
    }
    #[rustfmt::skip]
    let table = [
        ("src/event/envelope.rs", "use aws_lambda_events::sqs::SqsMessage;", true),
        ("src/event.rs", "use aws_lambda_events::sqs::SqsMessage;", false),
        ("src/plan.rs", "use aws_lambda_events::sqs::SqsMessage;", false),
        ("src/handler.rs", "use aws_lambda_events::sqs::SqsMessage;", false),
        ("src/main.rs", "use aws_lambda_events::sqs::SqsMessage;", false),
        ("src/sqs.rs", "use aws_sdk_sqs::Client;", true),
        ("src/main.rs", "use aws_sdk_sqs::Client;", false),
        ("src/redrive.rs", "use aws_sdk_sqs::Client;", false),
        ("src/aws_error.rs", "use aws_sdk_sqs::error::SdkError;", true),
        ("src/aws_error.rs", "use aws_sdk_sqs::Client;", false),
        ("src/cloudwatch.rs", "use aws_sdk_cloudwatch::Client;", true),
        ("src/cloudwatch.rs", "use aws_sdk_sqs::Client;", false),
        ("src/cloudwatch.rs", "use aws_sdk_resourcegroupstagging::Client;", false),
        ("src/sqs.rs", "use aws_sdk_cloudwatch::Client;", false),
        ("src/sqs.rs", "use aws_sdk_resourcegroupstagging::Client;", false),
        ("src/tagging.rs", "use aws_sdk_resourcegroupstagging::Client;", true),
        ("src/tagging.rs", "use aws_sdk_sqs::Client;", false),
        ("src/report.rs", "use aws_sdk_resourcegroupstagging::Client;", false),
        ("src/setup.rs", "use aws_config::SdkConfig;", true),
        ("src/handler.rs", "use aws_config::SdkConfig;", false),
        ("src/handler.rs", "fn f() { SystemTime::now(); println!() }", true),
        ("src/report.rs", "fn f() { SystemTime::now() }", false),
        ("src/report.rs", "use std::time::SystemTime as T;", false),
        ("src/report.rs", "fn f() { println!() }", false),
        ("src/handler.rs", "fn f() { print!() }", false),
        ("src/handler.rs", "fn f() { eprint!() }", false),
        ("src/handler.rs", "fn f() { eprintln!() }", false),
        ("src/handler.rs", "fn f() { dbg!(1) }", false),
        ("src/handler.rs", "fn f() { todo!() }", false),
        ("src/handler.rs", "fn f() { unimplemented!() }", false),
        ("src/sqs/tests.rs", "use aws_sdk_sqs::Client; fn f() { println!() }", true),
        ("src/wire.rs", "use tokio::net;", true),
        ("src/queue.rs", "use crate::policy::Rate;", false),
        ("src/policy.rs", "use crate::queue::QueueArn;", true),
        ("src/decision.rs", "use crate::queue::QueueArn; use crate::policy::{Policy, Rate};", true),
        ("src/decision.rs", "use crate::text::excerpt;", false),
        ("src/decision.rs", "use crate::config::Config;", false),
        ("src/outcome.rs", "use crate::sqs::SqsError;", true),
        ("src/outcome.rs", "use crate::sqs::SqsErrors;", false),
        ("src/plan.rs", "use crate::event::alarm::{Alarm, Silence};", true),
        ("src/plan.rs", "use crate::event::parse;", false),
        ("src/a_new_file.rs", "", false),
        ("src/decision/streak.rs", "", false),
        ("src/sqs/tests.rs", "#[test] #[ignore] fn f() {}", false),
        ("src/queue.rs", "#[cfg(test)] mod tests { #[ignore = \"slow\"] fn f() {} }", false),
        ("tests/it/events.rs", "#[ignore] fn f() {}", false),
        ("tests/it/events.rs", "fn f() { println!() }", true),
    ];
    for (path, source, is_fine) in table {
        let found = breaches(path, source);
        assert_eq!(found.is_empty(), is_fine, "{path}: {source}: {found:?}");
    }
    assert_eq!(
        breaches("src/queue.rs", "//\n/*\n*/ use\n  tokio::net;"),
        ["src/queue.rs:4: it may not name `tokio::net`"]
    );
}

#[test]
fn only_a_long_function_is_too_long() {
    let function = |lines: usize| format!("fn f() {{{}}}", "\n".repeat(lines - 1));
    let long = function(MAX_LINES + 1);
    let tests = "#[cfg(test)] mod tests";
    for (source, is_fine) in [
        (function(MAX_LINES), true),
        (long.clone(), false),
        (format!("impl T {{ {long} }}"), false),
        (format!("fn g() {{ {long} }}"), false),
        (
            format!("trait T {{ fn f(); }} mod m {{ {} }}", "\n".repeat(99)),
            true,
        ),
        (format!("const T: &[u8] = &[{}];", "\n".repeat(99)), true),
        (format!("{tests} {{ {long} }}"), true),
    ] {
        let found = breaches("src/lib.rs", &source);
        assert_eq!(found.is_empty(), is_fine, "{source}: {found:?}");
    }
    let lines = MAX_LINES + 1;
    assert_eq!(
        breaches("src/lib.rs", &format!("\n{long}")),
        [format!("src/lib.rs:2: `f` has {lines} lines")]
    );
}
