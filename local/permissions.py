"""Answers two questions for the permission test, with the engines of MiniStack: independent code, not our own.

    permissions.py expand   Which resources does template.yaml create?
                            in:  [{name: value, …}, …], a list of sets of parameters. `AWS::Partition` may be one
                            out: for each set {"resources": {…}, "outputs": {…}}, by logical ID, with every function,
                            condition and reference resolved; or {"refused": why}
    permissions.py decide   Which calls do these policies allow?
                            in:  {"cases": [[statement, …], …], "calls": [{"action", "resource", "context"}, …]}
                            out: [[true, …], …]: for each case, whether its statements, as an identity policy, allow
                            each call

The input is JSON on standard input, and the output is JSON on standard output.

It imports MiniStack's engines instead of asking its server: the server's IAM API does not accept the context of a call
(tags), and its CloudFormation cannot create every type of resource.
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

# MiniStack reads these variables when it is imported.
os.environ.update(MINISTACK_REGION=REGION, MINISTACK_ACCOUNT_ID=ACCOUNT)

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"
STACK = "sqs-auto-redrive"
STACK_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/8476a536-e9f4-11e8-9739-2dfe598c3fcd"


def expand(question: list[dict[str, str]]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for parameters in question:
        try:
            answers.append(stack(parameters))
        except ValueError as error:
            answers.append({"refused": str(error)})
    return answers


def stack(given: dict[str, str]) -> dict[str, Any]:
    """The resources and outputs of the stack. Raises ValueError for parameters that CloudFormation would refuse."""
    from ministack.services.cloudformation import engine
    from samtranslator.yaml_helper import yaml_parse

    # SAM's parser, because MiniStack's does not know every short form, such as `!EachMemberEquals`.
    given = dict(given)
    partition = given.pop("AWS::Partition", "aws")  # MiniStack knows this one only
    text = TEMPLATE.read_text().replace("${AWS::Partition}", partition).replace("!Ref AWS::Partition", partition)
    template = yaml_parse(text)
    for resource in template["Resources"].values():
        if "Code" in resource["Properties"]:  # what `sam package` writes
            resource["Properties"]["Code"] = {"S3Bucket": "code", "S3Key": "function.zip"}
    unknown = given.keys() - template["Parameters"].keys()
    if unknown:  # AWS refuses them too
        raise ValueError(f"the template does not have these parameters: {', '.join(sorted(unknown))}")
    sent = [{"Key": name, "Value": value} for name, value in given.items()]
    template = engine._apply_transforms(template, sent)
    parameters = engine._resolve_parameters(template, sent)
    conditions = engine._evaluate_conditions(with_joins_resolved(template, parameters), parameters)
    engine._evaluate_rules(template, parameters, conditions)
    created = {
        name: resource
        for name, resource in template["Resources"].items()
        if conditions.get(resource.get("Condition", ""), "Condition" not in resource)
    }
    existing: dict[str, Any] = {}

    def resolve(value: Any) -> Any:
        mappings = template.get("Mappings", {})
        return engine._resolve_refs(value, existing, parameters, conditions, mappings, STACK, STACK_ID)

    # No name refers to another resource, so every resource can get its name before references are resolved.
    for name, resource in created.items():
        existing[name] = identity(name, resource, resolve)
    return {
        "resources": {
            name: {
                "Type": resource["Type"],
                "Ref": existing[name]["PhysicalResourceId"],
                "Arn": existing[name]["Attributes"]["Arn"],
                "Properties": resolve(resource.get("Properties", {})),
            }
            for name, resource in created.items()
        },
        "outputs": {
            name: resolve(output["Value"])
            for name, output in template["Outputs"].items()
            if conditions.get(output.get("Condition", ""), "Condition" not in output)
        },
    }


def with_joins_resolved(template: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The template with every `Fn::Join` in its conditions resolved. MiniStack resolves them everywhere else."""
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
    """The values of `Ref` and `Fn::GetAtt` for the resource. `Fn::GetAtt` of any other attribute fails."""
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
    ref = arn if resource["Type"] == "AWS::SNS::Topic" else name
    attributes = {"Arn": arn, "TopicArn": arn, "TopicName": name, "KeyId": name}
    return {"PhysicalResourceId": ref, "ResourceType": resource["Type"], "Attributes": attributes}


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
        assert len(policy) == len(statements), "MiniStack could not parse a statement"
        answers.append([evaluate(context, [policy]).decision == "Allow" for context in contexts])
    return answers


def main() -> None:
    logging.disable(logging.CRITICAL)  # MiniStack logs to standard output
    questions: dict[str, Callable[[Any], Any]] = {"expand": expand, "decide": decide}
    json.dump(questions[sys.argv[1]](json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
