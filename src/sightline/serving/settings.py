"""What can be set about the server: plain numbers, decided at the edge (command line, container) and passed in."""

from dataclasses import dataclass, replace
from typing import Any, Self

from sightline.errors import RequestError
from sightline.images import Limits
from sightline.wire import ANSWER_TYPES, JSON, REQUEST_LIMITS, media_type

MAX_TRANSFORM_MB = 100
"""SageMaker's batch transform refuses MaxConcurrentTransforms x MaxPayloadInMB above this."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much the server takes at once.

    limits:           bytes of a body, pixels of its picture
    max_batch:        pictures predicted together
    max_wait_s:       how long a batch stays open after its first picture while the model is under load
    max_waiting:      requests between body and answer; more get 503
    max_decoded:      decoded pictures in memory, at the model's size; the others wait as the bytes they came in
    decode_threads:   pictures decoded and resized at the same time, and as many answers with masks written
    header_timeout_s: for a request's header to arrive, from its first byte on
    body_timeout_s:   for a whole body to arrive
    timeout_s:        from a whole body to its answer; SageMaker's clients wait 60 s
    max_connections:  open at once; a new one beyond it takes the place of the longest idle one, or is refused
    drain_s:          for accepted requests to be answered after SIGTERM; SageMaker kills 30 s after it
    answer_type:      content type of the answer where Accept leaves the choice
    batch_timeout_s:  for one batch in a worker; one that takes longer is killed. Longer than `timeout_s`: nobody waits any more
    """

    limits: Limits = REQUEST_LIMITS
    max_batch: int = 8
    max_wait_s: float = 0.005
    max_waiting: int = 64
    max_decoded: int = 16
    decode_threads: int = 2
    header_timeout_s: float = 20.0
    body_timeout_s: float = 30.0
    timeout_s: float = 60.0
    max_connections: int = 1000
    drain_s: float = 25.0
    answer_type: str = JSON
    batch_timeout_s: float = 120.0

    @classmethod
    def for_server(cls, *, max_payload_mb: int, answer_type: str, **given: Any) -> Self:
        """From numbers as the command line and SageMaker's variables have them.

        max_payload_mb: MiB of a body; 0 leaves the default, because batch transform's 0 means no limit of its own

        Raises:
            RequestError: `answer_type` is none that there is.
        """
        kind = media_type(answer_type)
        if kind not in ANSWER_TYPES and kind != "*/*":
            raise RequestError("--accept", f"is {answer_type!r}", f"Give one of {', '.join(ANSWER_TYPES)}.")
        limits = replace(REQUEST_LIMITS, max_bytes=max_payload_mb * 2**20) if max_payload_mb else REQUEST_LIMITS
        return cls(limits=limits, answer_type=JSON if kind == "*/*" else kind, **given)

    def for_workers(self, count: int, cores: int) -> Self:
        """The same, so that `count` processes with the model find decoded pictures whenever they are idle."""
        threads = max(self.decode_threads, min(2 * count, cores))
        return replace(self, decode_threads=threads, max_decoded=max(self.max_decoded, 2 * count * self.max_batch))

    def execution_parameters(self) -> dict[str, object]:
        """The answer to a batch transform job that asks how it may call."""
        payload_mb = max(1, min(MAX_TRANSFORM_MB, self.limits.max_bytes // 2**20))
        return {
            "MaxConcurrentTransforms": max(1, min(self.max_waiting, MAX_TRANSFORM_MB // payload_mb)),
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": payload_mb,
        }
