"""A log is followed through lost connections, restarts and the end of the job; nothing is shown twice or left out."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from sightline.cloud import jobs
from sightline.cloud.account import Account
from sightline.cloud.logs import Line, Tail
from sightline.errors import RunError, SightlineError

from .conftest import ACCOUNT, Pauses

PAGE = 2
"""Events of one answer."""


@dataclass
class Logs:
    """CloudWatch's two calls. breaks: number of a get_log_events call -> what it raises."""

    streams: dict[str, list[str]]
    breaks: dict[int, Exception] = field(default_factory=dict)
    calls: int = 0

    def get_paginator(self, name: str) -> "Logs":
        assert name == "describe_log_streams"
        return self

    def paginate(self, logGroupName: str, logStreamNamePrefix: str = "") -> Iterator[dict[str, Any]]:  # noqa: N803
        if not self.streams:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no group"}}, "DescribeLogStreams")
        for name in self.streams:
            if name.startswith(logStreamNamePrefix):
                yield {"logStreams": [{"logStreamName": name}]}

    def get_log_events(self, **asked: Any) -> dict[str, Any]:
        self.calls += 1
        if self.calls in self.breaks:
            raise self.breaks[self.calls]
        begin = int(asked.get("nextToken", "0"))
        events = self.streams[asked["logStreamName"]][begin : begin + PAGE]
        return {"events": [{"message": text + "\n"} for text in events], "nextForwardToken": str(begin + len(events))}


def texts(tail: Tail) -> list[str]:
    return [str(line) for line in tail.new()]


def test_pages_and_what_comes_later() -> None:
    logs = Logs({"job/algo-1-1": ["a", "b", "c"], "job-2/algo-1-1": ["another job's"]})
    tail = Tail(logs, "group", "job/")
    assert texts(tail) == ["a", "b", "c"]
    assert texts(tail) == []
    logs.streams["job/algo-1-1"].append("d")
    logs.streams["job/algo-1-2"] = ["after an interruption"]
    assert texts(tail) == ["d", "after an interruption"]


def test_several_machines_say_who_they_are() -> None:
    tail = Tail(Logs({"job/algo-1-17": ["a"], "job/algo-2-17": ["b"]}), "group", "job/", hosts=True)
    assert list(tail.new()) == [Line("algo-1", "a"), Line("algo-2", "b")]
    assert str(Line("algo-2", "b")) == "algo-2  b"


def test_no_log_yet() -> None:
    assert texts(Tail(Logs({}), "group", "job/")) == []


@dataclass
class SageMaker:
    """describe_training_job's answers, one after the other; the last one again and again."""

    answers: list[dict[str, Any] | Exception]

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def told(status: str, phase: str, said: str = "", **more: Any) -> dict[str, Any]:
    transitions = [{"Status": phase, "StatusMessage": said}]
    return {
        "TrainingJobName": "job",
        "TrainingJobStatus": status,
        "SecondaryStatus": phase,
        "SecondaryStatusTransitions": transitions,
        **more,
    }


def account_of(logs: Logs, *answers: dict[str, Any] | Exception) -> Account:
    clients = {"logs": logs, "sagemaker": SageMaker(list(answers))}
    return Account(ACCOUNT, "us-east-1", "aws", "arn", clients.__getitem__)


STARTING, TRAINING = told("InProgress", "Starting", "Preparing"), told("InProgress", "Training", "In progress")
DONE = told("Completed", "Completed", BillableTimeInSeconds=60, TrainingTimeInSeconds=200)
LOST = ReadTimeoutError(endpoint_url="https://logs")


def test_a_job_is_followed_to_its_end_through_lost_connections() -> None:
    logs = Logs({"job/algo-1-1": [f"line {number}" for number in range(7)]}, breaks={2: LOST, 3: LOST})
    said: list[str] = []
    shown: list[str] = []
    job = jobs.follow(
        account_of(logs, STARTING, STARTING, TRAINING, TRAINING, TRAINING, DONE),
        "job", said.append, lambda line: shown.append(line.text), sleep=Pauses(),
    )  # fmt: skip
    assert shown == [f"line {number}" for number in range(7)]
    assert said == [
        "Starting: Preparing",
        "the connection to AWS is lost (ReadTimeoutError), trying again",
        "Training: In progress",
        "Completed",
    ]
    assert (job.status, job.billable_s, job.used_s) == ("Completed", 60, 200)


def test_lines_that_come_after_the_end_are_shown() -> None:
    logs = Logs({"job/algo-1-1": ["first"]})
    pauses = Pauses()

    def late(seconds: float) -> None:
        pauses(seconds)
        if len(pauses.slept) == 2:
            logs.streams["job/algo-1-1"].append("last")

    shown: list[str] = []
    jobs.follow(account_of(logs, DONE), "job", lambda text: None, lambda line: shown.append(line.text), sleep=late)
    assert shown == ["first", "last"]


def test_a_connection_that_stays_lost() -> None:
    again = r"AWS cannot be reached for 900 s\. The job goes on; follow it again: sightline cloud logs job"
    with pytest.raises(RunError, match=again):
        jobs.follow(account_of(Logs({}), TRAINING, LOST), "job", lambda text: None, lambda line: None, sleep=Pauses())


def test_credentials_that_expire_on_the_way() -> None:
    expired = ClientError({"Error": {"Code": "ExpiredTokenException", "Message": "x"}}, "DescribeTrainingJob")
    with pytest.raises(SightlineError, match=r"credentials have expired\. Log in again\. The job goes on; follow it again"):
        jobs.follow(account_of(Logs({}), TRAINING, expired), "job", lambda text: None, lambda line: None, sleep=Pauses())


def test_throttling_is_waited_for() -> None:
    busy = ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "DescribeTrainingJob")
    job = jobs.follow(account_of(Logs({}), TRAINING, busy, DONE), "job", lambda t: None, lambda line: None, sleep=Pauses())
    assert job.over
