"""What can be set about the server: plain numbers, decided at the edge (command line, container) and passed in."""

from dataclasses import dataclass

from sightline.images import Limits
from sightline.wire import REQUEST_LIMITS

MAX_TRANSFORM_MB = 100
"""SageMaker's batch transform refuses MaxConcurrentTransforms x MaxPayloadInMB above this."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How much the server takes at once.

    limits:         bytes of a body, pixels of its picture
    max_batch:      pictures predicted together
    max_wait_s:     how long a batch stays open after its first picture while the model is under load
    max_waiting:    requests between body and answer; more get 503
    max_decoded:    decoded pictures in memory; the others wait as the bytes they came in
    decode_threads: pictures decoded at the same time
    body_timeout_s: for a whole body to arrive
    drain_s:        for accepted requests to be answered after SIGTERM; SageMaker kills 30 s after it
    """

    limits: Limits = REQUEST_LIMITS
    max_batch: int = 8
    max_wait_s: float = 0.005
    max_waiting: int = 64
    max_decoded: int = 16
    decode_threads: int = 2
    body_timeout_s: float = 30.0
    drain_s: float = 25.0

    def execution_parameters(self) -> dict[str, object]:
        """The answer to a batch transform job that asks how it may call."""
        payload_mb = max(1, min(MAX_TRANSFORM_MB, self.limits.max_bytes // 2**20))
        return {
            "MaxConcurrentTransforms": max(1, min(self.max_waiting, MAX_TRANSFORM_MB // payload_mb)),
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": payload_mb,
        }
