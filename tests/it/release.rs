//! The template of a release deploys the zip beside it, and is `template.yaml` otherwise.

use crate::support::local::project_file;
use std::process::Command;

const TEMPLATE: &str = include_str!("../../template.yaml");

/// What `make release` writes beside the zip of this architecture.
fn released(architecture: &str) -> String {
    let python = project_file(".venv/local/bin/python");
    let output = Command::new(python)
        .arg(project_file("local/release.py"))
        .args(["--template", architecture])
        .output()
        .expect("Python is installed: run `make setup`");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of one text that the other one lacks, and the lines that are left.
fn split<'a>(text: &'a str, other: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    text.lines()
        .partition(|line| !other.lines().any(|it| it == *line))
}

#[test]
fn template_of_a_release_differs_from_the_template_only_in_version_architecture_and_code() {
    let description = "Description: Redrives SQS dead-letter queues by itself, safely";
    for architecture in ["arm64", "x86_64"] {
        let released = released(architecture);
        let (added, same_in_released) = split(&released, TEMPLATE);
        let (removed, same_in_template) = split(TEMPLATE, &released);
        assert_eq!(same_in_released, same_in_template);

        let version = env!("CARGO_PKG_VERSION");
        let mut expected_added = vec![
            format!("{description} (sqs-auto-redrive {version})"),
            format!("    Default: {architecture}"),
            format!("    AllowedValues: [{architecture}]"),
            format!("      Code: sqs-auto-redrive-{architecture}.zip"),
        ];
        let mut expected_removed = vec![
            format!("{description} (sqs-auto-redrive)"),
            "    Default: arm64".to_owned(),
            "    AllowedValues: [arm64, x86_64]".to_owned(),
            "      BuildMethod: rust-cargolambda".to_owned(),
            "      Code: .".to_owned(),
        ];
        if architecture == "arm64" {
            // It is the default of the template too.
            expected_added.remove(1);
            expected_removed.remove(1);
        }
        assert_eq!(added, expected_added);
        assert_eq!(removed, expected_removed);
    }
}

/// What CloudFormation takes in a request, and in the body of a stack set:
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>.
#[test]
fn template_fits_into_a_request() {
    assert!(TEMPLATE.len() <= 51_200, "{} bytes", TEMPLATE.len());
}
