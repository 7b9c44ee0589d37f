"""The log of a job or an endpoint, followed: every line once and in order, also after a lost connection."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sightline.cloud.failures import is_missing

TRAINING, ENDPOINTS, TRANSFORMS = "/aws/sagemaker/TrainingJobs", "/aws/sagemaker/Endpoints", "/aws/sagemaker/TransformJobs"
"""Log groups. A job's streams are called NAME/HOST-NUMBER, an endpoint's group ENDPOINTS/NAME."""


@dataclass(frozen=True, slots=True)
class Line:
    """host: the machine that wrote it, `algo-1`; empty where a job has one machine."""

    host: str
    text: str

    def __str__(self) -> str:
        return f"{self.host}  {self.text}" if self.host else self.text


@dataclass(slots=True, eq=False)
class Tail:
    """Where somebody is in the streams of a job.

    logs:   CloudWatch's client
    prefix: of the streams' names; `NAME/` for a job, so that the log of `NAME-2` is not taken along
    tokens: stream -> where to go on
    """

    logs: Any
    group: str
    prefix: str
    hosts: bool = False
    tokens: dict[str, str] = field(default_factory=dict)

    def new(self) -> Iterator[Line]:
        """The lines since the last call. What raises loses none: the next call goes on where the last answer ended.

        Raises:
            botocore's errors: the connection is lost, access is denied.
        """
        try:
            streams = self.streams()
        except Exception as error:
            if is_missing(error):  # the group of an account's first job, before it says anything
                return
            raise
        for stream in streams:
            yield from self.read(stream)

    def streams(self) -> list[str]:
        """Of all machines, and of every start on spot capacity."""
        pages = self.logs.get_paginator("describe_log_streams")
        asked = {"logGroupName": self.group, **({"logStreamNamePrefix": self.prefix} if self.prefix else {})}
        return [stream["logStreamName"] for page in pages.paginate(**asked) for stream in page["logStreams"]]

    def read(self, stream: str) -> Iterator[Line]:
        """The new lines of one stream. CloudWatch gives the same token again at the end, and may give empty pages before it."""
        host = stream.removeprefix(self.prefix).rpartition("-")[0] if self.hosts else ""
        while True:
            token = {"nextToken": self.tokens[stream]} if stream in self.tokens else {}
            answer = self.logs.get_log_events(logGroupName=self.group, logStreamName=stream, startFromHead=True, **token)
            ended = answer["nextForwardToken"] == self.tokens.get(stream)
            self.tokens[stream] = answer["nextForwardToken"]
            for event in answer["events"]:
                yield Line(host, event["message"].rstrip("\n"))
            if ended:
                return
