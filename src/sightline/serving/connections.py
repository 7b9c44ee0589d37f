"""uvicorn's connection, bounded: nothing trickles in or out for ever, and not too many are open.

uvicorn itself closes a connection only between two requests, when it has been idle; a client that sends one byte a minute is
never idle. Imported only where uvicorn is known to be installed.
"""

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightline.serving.metrics import Metrics
from sightline.serving.settings import Settings

LOG = logging.getLogger(__name__)

FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connections:
    """The open connections of one server, oldest first, at most `settings.max_connections`."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.open: dict[Bounded, None] = {}

    def __call__(self, *arguments: Any, **named: Any) -> "Bounded":
        """What uvicorn calls for each new connection."""
        return Bounded(*arguments, bounds=self, **named)

    def admit(self, connection: "Bounded") -> bool:
        """Whether there is room. When all places are taken, the one that is idle for longest is closed for the new one."""
        if len(self.open) >= self.settings.max_connections:
            idle = next((other for other in self.open if other.idle), None)
            if idle is None:
                LOG.warning("a connection is refused: %d requests are under way", len(self.open))
                return False
            self.leave(idle)
            idle.transport.abort()
        self.open[connection] = None
        self.metrics.connections = len(self.open)
        return True

    def used(self, connection: "Bounded") -> None:
        """It has just been useful: it is closed last."""
        if connection in self.open:
            self.open[connection] = self.open.pop(connection)

    def leave(self, connection: "Bounded") -> None:
        self.open.pop(connection, None)
        self.metrics.connections = len(self.open)


class Bounded(H11Protocol):
    """One connection with deadlines for what a client owes.

    deadline: for a header that it has begun, or the rest of a body that is refused already
    reader:   when it is looked whether the client fetches its answer
    """

    def __init__(self, *arguments: Any, bounds: Connections, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.bounds = bounds
        self.deadline: asyncio.TimerHandle | None = None
        self.reader: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """No request is under way: it has none, has half a header, or is answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self.bounds.admit(self):
            transport.write(FULL)
            transport.close()
            return
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self.bounds.leave(self)
        self.disarm()
        self.forget_reader()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self.settle()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.bounds.used(self)
        self.settle()
        if self.transport.is_closing():  # closed, once the client has fetched the answer; if it ever does
            self.watch_reader()

    def settle(self) -> None:
        """Set the deadline when the client owes something, and take it away when it has delivered."""
        header = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
        body = self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete
        if self.transport.is_closing() or not (header or body):
            self.disarm()
        elif self.deadline is None:
            settings = self.bounds.settings
            self.deadline = self.loop.call_later(
                settings.header_timeout_s if header else settings.body_timeout_s, self.too_late, header
            )

    def too_late(self, header: bool) -> None:
        self.deadline = None
        if header:
            self.transport.write(LATE)
        self.transport.close()

    def disarm(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def pause_writing(self) -> None:
        """The client does not fetch its answer as fast as it is written."""
        super().pause_writing()
        self.watch_reader()

    def resume_writing(self) -> None:
        self.forget_reader()
        super().resume_writing()

    def watch_reader(self) -> None:
        """Cut the connection when nothing of what waits to be sent has been fetched for the time that idle ones have."""
        self.forget_reader()
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            self.reader = self.loop.call_later(self.timeout_keep_alive, self.check_reader, unsent)

    def check_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self.watch_reader()

    def forget_reader(self) -> None:
        if self.reader is not None:
            self.reader.cancel()
            self.reader = None

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long; one that has not even fetched its last answer is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()
