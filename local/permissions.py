"""Two questions of the permission test, answered by MiniStack, which no one here wrote.

    permissions.py expand   [{name: value}, …]: sets of parameters of template.yaml  ->  for each {"resources": …}, what
                            CloudFormation would make, by logical id, with every function, condition and reference
                            resolved; or {"refused": why}
    permissions.py decide   {"cases": [[statement, …], …], "calls": [{"action", "resource", "context"}, …]}  ->  whether the
                            statements of each case, as identity policies, allow each call: [[true, …], …]

The question comes on standard input, the answer goes to standard output, both as JSON.

Of MiniStack it takes the engines and no server: its IAM API would not take the context of a call (tags), and its
CloudFormation cannot make every type of resource. The engines know both.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT, REGION = "123456789012", "us-east-1"

# MiniStack reads them when it is imported.
os.environ.update(MINISTACK_REGION=REGION, MINISTACK_ACCOUNT_ID=ACCOUNT)

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"
STACK = "sqs-auto-redrive"
STACK_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/8476a536-e9f4-11e8-9739-2dfe598c3fcd"


def expand(question: list[dict[str, str]]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for parameters in question:
        try:
            answers.append({"resources": resources(parameters)})
        except ValueError as error:
            answers.append({"refused": str(error)})
    return answers


def resources(given: dict[str, str]) -> dict[str, Any]:
    """Raises ValueError for parameters that CloudFormation would refuse."""
    from ministack.services.cloudformation import engine
    from samtranslator.yaml_helper import yaml_parse

    # SAM's parser: MiniStack's does not know every short form, as `!EachMemberEquals`.
    template = yaml_parse(TEMPLATE.read_text())
    for resource in template["Resources"].values():
        if "CodeUri" in resource["Properties"]:  # as it is after `sam package`
            resource["Properties"]["CodeUri"] = "s3://code/function.zip"
    unknown = given.keys() - template["Parameters"].keys()
    if unknown:  # AWS refuses them, too
        raise ValueError(f"the template has no such parameters: {', '.join(sorted(unknown))}")
    sent = [{"Key": name, "Value": value} for name, value in given.items()]
    template = engine._apply_transforms(template, sent)
    parameters = engine._resolve_parameters(template, sent)
    conditions = engine._evaluate_conditions(joined(template, parameters), parameters)
    engine._evaluate_rules(template, parameters, conditions)
    made = {
        name: resource
        for name, resource in template["Resources"].items()
        if conditions.get(resource.get("Condition", ""), "Condition" not in resource)
    }
    existing: dict[str, Any] = {}

    def resolve(value: Any) -> Any:
        return engine._resolve_refs(value, existing, parameters, conditions, template.get("Mappings", {}), STACK, STACK_ID)

    # Names do not refer to other resources, so all resources can have theirs before any is resolved.
    for name, resource in made.items():
        existing[name] = identity(name, resource, resolve)
    return {
        name: {
            "Type": resource["Type"],
            "Ref": existing[name]["PhysicalResourceId"],
            "Arn": existing[name]["Attributes"]["Arn"],
            "Properties": resolve(resource.get("Properties", {})),
        }
        for name, resource in made.items()
    }


def joined(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The template with every `Fn::Join` of its conditions resolved: MiniStack resolves them everywhere else."""
    from ministack.services.cloudformation import engine

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "Fn::Join" in value:
            return engine._resolve_refs(value, {}, parameters, {}, {}, STACK, STACK_ID)
        return {name: walk(item) for name, item in value.items()}

    return {**template, "Conditions": walk(template.get("Conditions", {}))}


def identity(logical_id: str, resource: dict[str, Any], resolve: Callable[[Any], Any]) -> dict[str, Any]:
    """What `Ref` and `Fn::GetAtt` give. Any attribute that is not here fails loudly."""
    _, service, kind = resource["Type"].split("::")
    name = resolve(resource.get("Properties", {}).get(f"{kind}Name", f"{STACK}-{logical_id}"))
    owned = f"{REGION}:{ACCOUNT}"
    arn = {
        "IAM": f"arn:aws:iam::{ACCOUNT}:{kind.lower()}/{name}",
        "Lambda": f"arn:aws:lambda:{owned}:{kind.lower()}:{name}",
        "Logs": f"arn:aws:logs:{owned}:log-group:{name}:*",
        "SNS": f"arn:aws:sns:{owned}:{name}",
        "KMS": f"arn:aws:kms:{owned}:{kind.lower()}/{name}",
    }.get(service, f"arn:aws:{service.lower()}:{owned}:{kind.lower()}/{name}")
    named_by_arn = resource["Type"] in ("AWS::SNS::Topic",)
    attributes = {"Arn": arn, "TopicArn": arn, "TopicName": name, "KeyId": name}
    return {"PhysicalResourceId": arn if named_by_arn else name, "ResourceType": resource["Type"], "Attributes": attributes}


def decide(question: dict[str, Any]) -> list[list[bool]]:
    from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

    contexts = [
        EvalContext(
            principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/redrive/{STACK}",
            principal_type="AssumedRole",
            principal_account=ACCOUNT,
            action=call["action"],
            resource_arn=call["resource"],
            region=REGION,
            service_context={key.lower(): value for key, value in call["context"].items()},
        )
        for call in question["calls"]
    ]
    answers = []
    for statements in question["cases"]:
        policy = parse_policy_document({"Version": "2012-10-17", "Statement": statements})
        assert len(policy) == len(statements), "a statement was not understood"
        answers.append([evaluate(context, [policy]).decision == "Allow" for context in contexts])
    return answers


def main() -> None:
    logging.disable(logging.CRITICAL)  # it would go to standard output
    json.dump({"expand": expand, "decide": decide}[sys.argv[1]](json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
