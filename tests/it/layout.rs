//! What each module must not mention. `src/lib.rs` lists these rules.

use std::path::{Path, PathBuf};

/// One rule: where it holds, the words it forbids there, and why.
struct Rule {
    /// Whether it holds in the file of this path, relative to the project and with `/` between its
    /// parts.
    holds_in: fn(&str) -> bool,
    /// Forbidden sequences of tokens, as `tokens` returns them, separated by blanks. A token that
    /// ends in `*` stands for all tokens with this prefix.
    forbidden: &'static [&'static str],
    why: &'static str,
}

/// `policy` and `queue`, and the files below them.
fn is_pure(path: &str) -> bool {
    ["src/policy", "src/queue"]
        .iter()
        .filter_map(|module| path.strip_prefix(module))
        .any(|rest| rest == ".rs" || rest.starts_with('/'))
}

fn is_source(path: &str) -> bool {
    path.starts_with("src/")
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule {
        holds_in: is_pure,
        forbidden: &[
            "tokio", "tracing*", "serde_json", "aws_*", "lambda_runtime", "futures_util",
        ],
        why: "policy and queue import no I/O, no JSON and no AWS crate",
    },
    Rule {
        holds_in: is_pure,
        forbidden: &[
            "std :: env", "std :: fs", "std :: net", "std :: io", "std :: process", "std :: thread",
            "print*", "eprint*",
        ],
        why: "policy and queue do no I/O",
    },
    Rule {
        holds_in: is_pure,
        forbidden: &["std :: {", "std as", "std :: *"],
        why: "policy and queue name each module of std, so that this test can see which",
    },
    Rule {
        holds_in: is_pure,
        forbidden: &[":: now", "elapsed (", "Instant"],
        why: "policy and queue read no clock: the time is an argument",
    },
    Rule {
        holds_in: is_pure,
        forbidden: &[
            "crate :: cloudwatch", "crate :: config", "crate :: enrollment", "crate :: event",
            "crate :: handler", "crate :: report", "crate :: sqs", "crate :: {",
        ],
        why: "policy and queue import no module that does I/O",
    },
    Rule {
        holds_in: |path| path == "src/queue.rs",
        forbidden: &["crate :: policy"],
        why: "queue is the leaf",
    },
    Rule {
        holds_in: |path| !is_in(path, &["src/event.rs"]),
        forbidden: &["aws_lambda_events"],
        why: "only event.rs and the files below it know the shapes of AWS's events",
    },
    Rule {
        holds_in: |path| !is_in(path, &["src/sqs.rs", "src/cloudwatch.rs", "src/tagging.rs"]),
        forbidden: &["aws_sdk_*"],
        why: "only the ports know AWS's clients",
    },
    Rule {
        holds_in: |path| !is_in(path, &["src/sqs.rs"]),
        forbidden: &["aws_sdk_sqs"],
        why: "only sqs.rs is the port to SQS",
    },
    Rule {
        holds_in: |path| !is_in(path, &["src/cloudwatch.rs"]),
        forbidden: &["aws_sdk_cloudwatch"],
        why: "only cloudwatch.rs is the port to CloudWatch",
    },
    Rule {
        holds_in: |path| is_source(path) && path != "src/handler.rs",
        forbidden: &["SystemTime :: now", "SystemTime as"],
        why: "the time is read in handler.rs alone",
    },
    Rule {
        holds_in: |path| is_source(path) && path != "src/handler.rs",
        forbidden: &["println !"],
        why: "only the metrics go to standard output by hand, in handler.rs; all else is logged",
    },
    Rule {
        holds_in: is_source,
        forbidden: &["print !", "eprint !", "eprintln !", "dbg !"],
        why: "what there is to say is logged",
    },
    Rule {
        holds_in: is_source,
        forbidden: &["todo !", "unimplemented !"],
        why: "nothing is half built",
    },
];

/// This one holds in tests too: a test that is not run is no test.
const IGNORED_TEST: Rule = Rule {
    holds_in: |_| true,
    forbidden: &["# [ ignore"],
    why: "no test is switched off",
};

fn is_in(path: &str, files: &[&str]) -> bool {
    files.iter().any(|file| {
        path == *file || path.starts_with(&format!("{}/", file.trim_end_matches(".rs")))
    })
}

#[test]
fn no_module_mentions_what_it_must_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(root, "src");
    for needed in [
        "src/policy.rs",
        "src/queue.rs",
        "src/event.rs",
        "src/sqs.rs",
        "src/handler.rs",
    ] {
        assert!(
            files.iter().any(|(path, _)| path == needed),
            "{needed} does not exist: which file do its rules hold for now?"
        );
    }
    let mut broken = Vec::new();
    for (path, source) in files.iter().chain(&rust_files(root, "tests")) {
        broken.extend(breaches(path, source));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn time_is_read_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("src/handler.rs")).unwrap();
    let readings = find(&without_tests(tokens(&source)), "SystemTime :: now");
    assert_eq!(
        readings.len(),
        1,
        "in handler.rs, in the lines {readings:?}"
    );
}

#[test]
fn lib_lists_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert!(modules.len() > 5, "the modules are found: {modules:?}");
    for module in modules {
        let row = format!("//! | [`{module}`] |");
        assert!(lib.contains(&row), "lib.rs has no row for `{module}`");
    }
}

/// The rules that a file breaks, and where.
fn breaches(path: &str, source: &str) -> Vec<String> {
    let all = tokens(source);
    // A module of tests in a file of its own.
    let is_tests = !is_source(path) || path.ends_with("/tests.rs");
    let code = if is_tests {
        Vec::new()
    } else {
        without_tests(all.clone())
    };
    let rules = RULES.iter().map(|rule| (rule, &code));
    rules
        .chain([(&IGNORED_TEST, &all)])
        .filter(|(rule, _)| (rule.holds_in)(path))
        .flat_map(|(rule, tokens)| {
            rule.forbidden.iter().flat_map(move |words| {
                let lines = find(tokens, words);
                lines.into_iter().map(move |line| {
                    format!("{path}:{line}: `{}`: {}", words.replace(' ', ""), rule.why)
                })
            })
        })
        .collect()
}

/// The lines in which these tokens stand one after another.
fn find(tokens: &[(usize, String)], words: &str) -> Vec<usize> {
    let words: Vec<&str> = words.split(' ').collect();
    let is = |token: &str, word: &str| match word.strip_suffix('*') {
        Some(start) if !start.is_empty() => token.starts_with(start),
        _ => token == word,
    };
    tokens
        .windows(words.len())
        .filter(|window| {
            window
                .iter()
                .zip(&words)
                .all(|((_, token), word)| is(token, word))
        })
        .map(|window| window[0].0)
        .collect()
}

/// All Rust files below a folder of the project: path and text.
fn rust_files(root: &Path, folder: &str) -> Vec<(String, String)> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(root.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.file_name().unwrap().to_str().unwrap();
        let path = format!("{folder}/{name}");
        if entry.is_dir() {
            files.extend(rust_files(root, &path));
        } else if name.ends_with(".rs") {
            files.push((path, std::fs::read_to_string(&entry).unwrap()));
        }
    }
    files
}

/// The tokens of Rust code with their lines: words, `::`, and single characters. Comments and the
/// contents of literals are left out.
fn tokens(source: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            ('"', _) => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            // A character, not a lifetime.
            ('\'', '\\') => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            (':', ':') => {
                i += 2;
                tokens.push((line, "::".to_owned()));
            }
            (c, _) if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let mut hashes = 0;
                while at(i + hashes) == '#' {
                    hashes += 1;
                }
                if matches!(&*word, "r" | "br" | "cr") && at(i + hashes) == '"' {
                    // A raw string ends at a quote with as many hashes.
                    i += hashes + 1;
                    let closes = |i: usize| at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#');
                    while i < chars.len() && !closes(i) {
                        i += 1;
                    }
                    i += hashes + 1;
                } else if word == "r" && hashes == 1 {
                    i += 1; // A raw name: `r#type`.
                } else {
                    tokens.push((line, word));
                }
            }
            (c, _) => {
                i += 1;
                if !c.is_whitespace() {
                    tokens.push((line, c.to_string()));
                }
            }
        }
        line += chars[start..i.min(chars.len())]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    tokens
}

/// The tokens without the items that `#[cfg(test)]` stands before.
fn without_tests(tokens: Vec<(usize, String)>) -> Vec<(usize, String)> {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut code = Vec::new();
    let mut rest = &tokens[..];
    while let [first, after @ ..] = rest {
        let is_test = rest.len() >= CFG_TEST.len()
            && rest
                .iter()
                .zip(CFG_TEST)
                .all(|((_, token), word)| token == word);
        if !is_test {
            code.push(first.clone());
            rest = after;
            continue;
        }
        // To the end of the item: a semicolon or a closing brace outside of all brackets.
        rest = &rest[CFG_TEST.len()..];
        let mut depth = 0;
        while let [(_, token), after @ ..] = rest {
            rest = after;
            match &**token {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    code
}

#[test]
fn every_rule_finds_what_breaks_it_and_nothing_else() {
    let pure = ["src/policy.rs", "src/policy/streak.rs", "src/queue.rs"];
    #[rustfmt::skip]
    let broken = [
        "use tokio::time::Instant;", "use tracing::info;", "use tracing_subscriber::fmt;",
        "use serde_json::Value;", "use aws_sdk_sqs::Client;", "fn f() -> aws_types::X {}",
        "use ::aws_config::SdkConfig;", "use lambda_runtime::Context;", "fn f() { std::env::var(x); }",
        "use std::fs;", "use std::net::TcpStream;", "use std::{fmt, env};", "use std as s;",
        "fn f() { SystemTime::now() }", "fn f() { std::time::Instant::now() }", "fn f() { T ::\nnow() }",
        "fn f() { start.elapsed() }", "fn f() { println!() }", "use crate::sqs::Fault;",
        "use crate::{handler};", "fn f() { todo!() }",
        "#[cfg(test)] mod tests { fn f() {} } use tokio::net;", "#[cfg(test)] mod tests; use tokio::net;",
        "#[cfg(test)] use a::{b, c}; use tokio::net;", "const C: char = '\"'; use tokio::net;",
        "const R: &str = r#\"\"#; use tokio::net;", "/* /* */ */ use tokio::net;", "// x\nuse tokio::net;",
        "fn f<'a>(c: &'a str) {} use tokio::net;", "const C: char = '\\''; use tokio::net;",
    ];
    for path in pure {
        for source in broken {
            assert!(
                !breaches(path, source).is_empty(),
                "{path} may not have: {source}"
            );
        }
    }
    #[rustfmt::skip]
    let fine = [
        "use std::fmt; use std::time::{Duration, SystemTime};", "/// tokio, aws_sdk_sqs, println!",
        "// SystemTime::now()", "/* todo!() /* std::env */ std::fs */", "const S: &str = \"std::env tokio\";",
        "const S: &str = r#\"a \" tokio\"#;", "#[cfg(test)] mod tests { use tokio::net; fn f() { {} } }",
        "#[cfg(test)] fn f(a: [u8; 2]) { todo!() }", "fn f(now: SystemTime) { now.duration_since(x) }",
        "fn in_std_env() { my_tokio() }", "const S: &str = \"\\\"\"; // tokio",
    ];
    for path in pure {
        for source in fine {
            assert_eq!(breaches(path, source), [""; 0], "{path} may have: {source}");
        }
    }
    for (path, source, is_fine) in [
        (
            "src/event.rs",
            "use aws_lambda_events::sqs::SqsMessage;",
            true,
        ),
        (
            "src/handler.rs",
            "use aws_lambda_events::sqs::SqsMessage;",
            false,
        ),
        (
            "src/main.rs",
            "use aws_lambda_events::sqs::SqsMessage;",
            false,
        ),
        ("src/sqs.rs", "use aws_sdk_sqs::Client;", true),
        ("src/sqs/errors.rs", "use aws_sdk_sqs::Client;", true),
        ("src/main.rs", "use aws_sdk_sqs::Client;", false),
        ("src/cloudwatch.rs", "use aws_sdk_cloudwatch::Client;", true),
        ("src/cloudwatch.rs", "use aws_sdk_sqs::Client;", false),
        ("src/sqs.rs", "use aws_sdk_cloudwatch::Client;", false),
        (
            "src/tagging.rs",
            "use aws_sdk_resourcegroupstagging::Client;",
            true,
        ),
        ("src/tagging.rs", "use aws_sdk_sqs::Client;", false),
        (
            "src/report.rs",
            "use aws_sdk_resourcegroupstagging::Client;",
            false,
        ),
        ("src/main.rs", "use aws_config::SdkConfig;", true),
        (
            "src/handler.rs",
            "fn f() { SystemTime::now(); println!() }",
            true,
        ),
        ("src/report.rs", "fn f() { SystemTime::now() }", false),
        ("src/report.rs", "fn f() { println!() }", false),
        ("src/handler.rs", "fn f() { eprintln!() }", false),
        ("src/handler.rs", "fn f() { dbg!(1) }", false),
        ("src/handler.rs", "fn f() { todo!() }", false),
        ("src/handler.rs", "fn f() { unimplemented!() }", false),
        (
            "src/sqs/tests.rs",
            "use aws_sdk_sqs::Client; fn f() { println!() }",
            true,
        ),
        ("src/queue.rs", "use crate::policy::Rate;", false),
        ("src/policy.rs", "use crate::queue::QueueArn;", true),
        ("src/sqs/tests.rs", "#[test] #[ignore] fn f() {}", false),
        (
            "src/queue.rs",
            "#[cfg(test)] mod tests { #[ignore = \"slow\"] fn f() {} }",
            false,
        ),
        ("tests/events.rs", "#[ignore] fn f() {}", false),
        ("tests/events.rs", "fn f() { println!() }", true),
    ] {
        let found = breaches(path, source);
        assert_eq!(found.is_empty(), is_fine, "{path}: {source}: {found:?}");
    }
    assert_eq!(
        breaches("src/queue.rs", "//\n/*\n*/ use\n  tokio::net;"),
        ["src/queue.rs:4: `tokio`: policy and queue import no I/O, no JSON and no AWS crate"]
    );
}
