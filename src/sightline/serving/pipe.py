"""What goes between the server and its model processes over a socket: a line of JSON, then raw bytes. Nothing is pickled.

A message is the length of its JSON (4 bytes), the JSON, and as many bytes as it tells under `bytes`. Pictures travel as their
pixels and detections as their arrays, one after the other. A picture of 1920 x 1080 px takes 3.5 ms on the machine of
docs/benchmarks; at a detector's size it is half of that.
"""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.records import Detections, Image, ImageSize, Rle

LENGTH = struct.Struct("!I")
BUFFER_BYTES = 4 * 2**20
"""Asked of the system for a socket; it gives what it allows. Larger ones are fewer turns between the two processes."""

BOX_BYTES, SCORE_BYTES, LABEL_BYTES = 16, 4, 8
"""Of one detection: four float32, one, and an int64."""

Told = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection, the server's first."""
    ends = socket.socketpair()
    for end in ends:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    return ends


def send(connection: socket.socket, told: Mapping[str, object], arrays: Sequence[NDArray[Any]] = ()) -> None:
    """A message.

    Raises:
        OSError: the other end has gone, or does not read in time (the socket's timeout).
    """
    whole = [np.ascontiguousarray(array) for array in arrays]
    text = json.dumps({**told, "bytes": sum(array.nbytes for array in whole)}).encode()
    connection.sendall(LENGTH.pack(len(text)) + text)
    for array in whole:
        if array.nbytes:
            connection.sendall(array.data.cast("B"))


def receive(connection: socket.socket) -> tuple[Told, memoryview] | None:
    """The next message; None: the other end has gone.

    Raises:
        TimeoutError: nothing came within the socket's timeout.
    """
    try:
        (length,) = LENGTH.unpack(read(connection, LENGTH.size))
        told: Told = json.loads(bytes(read(connection, length)))
        return told, read(connection, told["bytes"])
    except TimeoutError:
        raise
    except (EOFError, OSError):
        return None


def read(connection: socket.socket, count: int) -> memoryview:
    """`count` bytes.

    Raises:
        EOFError: the other end has gone.
    """
    room = np.empty(count, np.uint8).data if count else memoryview(b"")
    done = 0
    while done < count:
        got = connection.recv_into(room[done:])
        if not got:
            raise EOFError
        done += got
    return room


def told_pictures(pictures: Sequence[Image], sizes: Sequence[ImageSize]) -> Told:
    """The JSON before the pixels of `pictures`, which were of `sizes` when they were sent."""
    return {"shapes": [picture.shape for picture in pictures], "sizes": sizes}


def pictures_of(told: Told, pixels: memoryview) -> tuple[list[Image], list[ImageSize]]:
    """The pictures of a message, without a copy, and their sizes."""
    shapes = told["shapes"]
    flat = np.frombuffer(pixels, np.uint8)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    pictures = [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]
    return pictures, [ImageSize(*size) for size in told["sizes"]]


def told_detections(found: Sequence[Detections]) -> tuple[Told, list[NDArray[Any]]]:
    """The JSON and the arrays of a message with the detections of several pictures."""
    told, arrays = [], list[NDArray[Any]]()
    for one in found:
        masks = None if one.masks is None else [mask.counts for mask in one.masks]
        told.append({"size": one.size, "count": len(one), "masks": masks})
        arrays += [one.boxes.astype(np.float32), one.scores.astype(np.float32), one.labels.astype(np.int64)]
    return {"found": told}, arrays


def detections_of(told: Told, values: memoryview) -> list[Detections]:
    """The detections of a message."""
    found, start = [], 0
    for one in told["found"]:
        count, size = one["count"], ImageSize(*one["size"])
        scores_at, labels_at = start + BOX_BYTES * count, start + (BOX_BYTES + SCORE_BYTES) * count
        end = labels_at + LABEL_BYTES * count
        boxes = np.frombuffer(bytes(values[start:scores_at]), np.float32).reshape(-1, 4)
        scores = np.frombuffer(bytes(values[scores_at:labels_at]), np.float32)
        labels = np.frombuffer(bytes(values[labels_at:end]), np.int64)
        masks = None if one["masks"] is None else tuple(Rle(size, as_counts(counts)) for counts in one["masks"])
        found.append(Detections(size, boxes, scores, labels, masks))
        start = end
    return found


def as_counts(given: str | list[int]) -> str | tuple[int, ...]:
    return given if isinstance(given, str) else tuple(given)
