"""Rights beyond the calls themselves: what the role of jobs and endpoints needs of AWS's other services."""

import json
import sys
from typing import Any

import pytest

from sightline.cli.main import main
from sightline.cloud import policies

from .conftest import ROLE

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def rights(action: str, **more: Any) -> dict[str, list[str]]:
    """{action: its resources}."""
    document = policies.policy(action, policies.Scope("123456789012", "us-east-1", "parts", ROLE, **more))
    found: dict[str, list[str]] = {}
    for statement in document["Statement"]:
        for one in statement["Action"]:
            found.setdefault(one, []).extend(statement["Resource"])
    return found


def test_the_role_may_look_at_the_alarms_of_a_rollback() -> None:
    alarms = ["arn:aws:cloudwatch:us-east-1:123456789012:alarm:sightline-*"]
    assert rights("role")["cloudwatch:DescribeAlarms"] == alarms


def test_network_and_key_are_there_where_they_are_used_only() -> None:
    plain = rights("role")
    assert not any(one.startswith(("ec2:", "kms:")) for one in plain)
    assert {one for one in rights("role", vpc=True) if one.startswith("ec2:")} == {f"ec2:{one}" for one in policies.NETWORK}
    keyed = rights("role", kms_key=KEY)
    wanted = {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"}
    assert {one: keyed[one] for one in keyed if one.startswith("kms:")} == {one: [KEY] for one in wanted}


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        ("train", {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"}),
        ("tune", {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"}),
        ("transform", {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"}),
        ("deploy", {"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey"}),
        ("look", {"kms:Decrypt"}),
        ("delete", set[str]()),
        ("push", set[str]()),
    ],
)
def test_what_a_key_takes_of_whoever_asks(action: str, wanted: set[str]) -> None:
    assert {one for one in rights(action, kms_key=KEY) if one.startswith("kms:")} == wanted
    assert not any(one.startswith("kms:") for one in rights(action))


def test_a_key_by_its_alias_or_its_id() -> None:
    scope = policies.Scope("123456789012", "us-east-1", kms_key="alias/parts")
    (statement,) = policies.key_use(scope, ["kms:Decrypt"])
    assert statement["Resource"] == ["arn:aws:kms:us-east-1:123456789012:key/*"]
    assert statement["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/parts"}}
    by_id = policies.Scope("123456789012", "us-east-1", kms_key="1234abcd")
    assert policies.key_use(by_id, ["kms:Decrypt"])[0]["Resource"] == ["arn:aws:kms:us-east-1:123456789012:key/1234abcd"]


def test_a_role_from_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sightline", "cloud", "policy", "role", "--vpc", "--kms-key", KEY])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    printed = capsys.readouterr()
    actions = policies.actions_of(json.loads(printed.out))
    assert {"ec2:CreateNetworkInterface", "kms:CreateGrant", "cloudwatch:DescribeAlarms"} <= actions
    assert f"sightline cloud policy role --vpc --kms-key {KEY} > permissions.json" in printed.err
