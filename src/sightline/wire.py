"""What travels over HTTP and into JSON lines: pictures in, detections out. Both directions of both formats; never pickle.

The JSON keys are those that Detectron2-on-SageMaker clients already decode, plus `class_names` (one name per detection).
Masks are COCO's compressed run lengths; R: runs in one mask, background and object in turn, column after column.
"""

import ast
import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sightline.errors import ImageError, RequestError, ShapeError
from sightline.images import Limits, decode_rgb
from sightline.records import Detections, Image, ImageSize, Rle

JSON = "application/json"
NPZ = "application/x-npz"
NPY = "application/x-npy"
PICTURE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff")
REQUEST_TYPES = (*PICTURE_TYPES, NPY)
"""Content types of a request. The picture types are synonyms: the content decides (a PNG sent as image/jpeg works)."""
ANSWER_TYPES = (JSON, NPZ)

MASKS = "pred_masks_rle"
"""The key of the masks in an answer; absent where the model finds boxes only."""

REQUEST_LIMITS = Limits(max_bytes=32 * 2**20, max_pixels=100_000_000, max_side=30_000)
"""For strangers' pictures: 100 megapixels are 300 MB decoded, what one request may cost."""


def to_json(detections: Detections, class_names: Sequence[str]) -> dict[str, object]:
    """The answer as plain data. float32 values are written as the float64 they equal, so decoding gives the same bits."""
    labels = detections.labels.tolist()
    answer: dict[str, object] = {
        "image_size": list(detections.size),
        "pred_boxes": detections.boxes.astype(np.float64).tolist(),
        "scores": detections.scores.astype(np.float64).tolist(),
        "pred_classes": labels,
        "class_names": [class_names[label] for label in labels],
    }
    if detections.masks is not None:
        answer[MASKS] = [{"size": list(mask.size), "counts": counts_text(mask)} for mask in detections.masks]
    return answer


def from_json(answer: Mapping[str, object], where: object) -> tuple[Detections, list[str]]:
    """The detections of one answer, and their class names (empty where the server sends none).

    Raises:
        RequestError: keys are missing, their lengths contradict each other, or a mask is not one of this picture.
    """
    try:
        height, width = np.asarray(answer["image_size"], dtype=np.int64).tolist()
        scores = np.asarray(answer["scores"], dtype=np.float32)
        detections = Detections(
            size=ImageSize(height, width),
            boxes=np.asarray(answer["pred_boxes"], dtype=np.float32).reshape(len(scores), 4),
            scores=scores,
            labels=np.asarray(answer["pred_classes"], dtype=np.int64),
            masks=read_masks(answer.get(MASKS), ImageSize(height, width)),
        )
        names = [str(name) for name in answer.get("class_names", ())]  # type: ignore[attr-defined]
        if len(names) not in (0, len(scores)):
            raise ValueError(f"{len(names)} class names for {len(scores)} scores")
    except (KeyError, TypeError, ValueError, OverflowError, ShapeError) as error:
        raise RequestError(where, f"is no detection answer ({error!r})", "Check the address and its version.") from error
    return detections, names


def to_npz(detections: Detections, class_names: Sequence[str]) -> bytes:
    """The same answer as a NumPy archive of plain arrays."""
    archive = io.BytesIO()
    labels = detections.labels
    arrays: dict[str, Any] = {
        "image_size": np.asarray(detections.size, dtype=np.int64),
        "pred_boxes": detections.boxes,
        "scores": detections.scores,
        "pred_classes": labels,
        "class_names": np.asarray([class_names[label] for label in labels.tolist()], dtype=np.str_),
    }
    if detections.masks is not None:
        arrays[MASKS] = np.asarray([counts_text(mask) for mask in detections.masks], dtype=np.str_)
    np.savez(archive, **arrays)
    return archive.getvalue()


def from_npz(body: bytes, where: object) -> tuple[Detections, list[str]]:
    """As `from_json`, of `application/x-npz`. Arrays of objects are refused, never unpickled."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            answer = {name: archive[name].tolist() for name in archive.files}
    except Exception as error:  # zipfile and numpy raise a dozen kinds on damaged archives
        raise RequestError(where, f"is no NumPy archive ({error})", "Check the address and the server's version.") from error
    if isinstance(answer.get(MASKS), list):
        answer[MASKS] = [{"size": answer.get("image_size"), "counts": counts} for counts in answer[MASKS]]
    return from_json(answer, where)


def counts_text(mask: Rle) -> str:
    """COCO's compressed text, also of bare run lengths."""
    if isinstance(mask.counts, str):
        return mask.counts
    from sightline.geometry.masks import compressed  # here: the engine behind it takes a while to import

    return str(compressed(mask.counts, mask.size).counts)


def read_masks(entries: object, size: ImageSize) -> tuple[Rle, ...] | None:
    """The masks of an answer, compressed; None where it has none.

    Raises:
        KeyError, TypeError, ValueError: they are not masks of a picture of `size`.
    """
    if entries is None:
        return None
    if not isinstance(entries, list):
        raise TypeError(f"{MASKS} is a {type(entries).__name__}, not a list")
    return tuple(read_mask(entry, size) for entry in entries)


def read_mask(entry: Mapping[str, object], size: ImageSize) -> Rle:
    given, counts = entry["size"], entry["counts"]
    if given != list(size):
        raise ValueError(f"a mask of size {given!r} in a picture of {list(size)}")
    if isinstance(counts, list):
        if not all(type(run) is int and 0 <= run <= size.height * size.width for run in counts):
            raise ValueError("a mask whose run lengths are no whole numbers within the picture")
        counts = tuple(counts)
    elif not isinstance(counts, str):
        raise TypeError(f"a mask whose counts are a {type(counts).__name__}")
    run_lengths(Rle(size, counts))
    return Rle(size, counts_text(Rle(size, counts)))


FIRST_DIGIT, DIGIT_BITS, MORE, NEGATIVE = 48, 5, 0x20, 0x10
"""COCO's text: six bits a letter from "0" on. Five are a digit, lowest first; the sixth says that more follow."""

MAX_DIGITS = 7
"""35 bits, sign included: no run of MAX_PIXELS needs more, and no sum of such runs overflows an int64."""

MAX_PIXELS = 2**32
"""COCO's own routines count in 32 bits."""


def run_lengths(mask: Rle) -> NDArray[np.int64]:
    """(R,) pixels of background, object, background, ... down the columns. Safe on whatever came over the network.

    Raises:
        ValueError: they do not describe exactly the pixels of `mask.size`.
    """
    if isinstance(mask.counts, str):
        runs = decode_counts(np.frombuffer(mask.counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - FIRST_DIGIT)
    else:
        runs = np.asarray(mask.counts, dtype=np.int64)
    pixels = mask.size.height * mask.size.width
    if min(mask.size) < 0 or pixels >= MAX_PIXELS or (runs < 0).any() or (runs > pixels).any() or int(runs.sum()) != pixels:
        raise ValueError(f"a mask whose runs do not sum to the {pixels} pixels of {list(mask.size)}")
    return runs


def decode_counts(letters: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R,) run lengths of COCO's text, less FIRST_DIGIT. From the fourth on, the text has the difference to the last but one.

    Raises:
        ValueError: it is no such text.
    """
    if ((letters < 0) | (letters > 2 * MORE - 1)).any() or (len(letters) and letters[-1] & MORE):
        raise ValueError("a mask whose counts are no run lengths, or cut off")
    last = np.flatnonzero((letters & MORE) == 0)
    first = np.concatenate(([0], last[:-1] + 1))[: len(last)]
    digits = last - first + 1
    if (digits > MAX_DIGITS).any():
        raise ValueError("a mask whose runs are longer than any picture")
    place = np.arange(len(letters)) - np.repeat(first, digits)
    values = np.zeros(len(last), dtype=np.int64)
    np.add.at(values, np.repeat(np.arange(len(last)), digits), (letters & (MORE - 1)) << (DIGIT_BITS * place))
    values -= np.where(letters[last] & NEGATIVE, np.int64(1) << (DIGIT_BITS * digits), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def from_json_text(body: bytes, where: object) -> tuple[Detections, list[str]]:
    """`from_json` of the response body."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(where, f"answered no JSON ({error})", "Check the address.") from error
    if not isinstance(answer, dict):
        raise RequestError(where, f"answered a JSON {type(answer).__name__}", "Check the address.")
    return from_json(answer, where)


WEBP_MAX_SIDE = 16_383
"""Pixels; the format has 14 bits for each side."""


def as_png(image: Image) -> bytes:
    """Lossless, with little time spent on size: level 1 is about five times as fast as Pillow's default."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_webp(image: Image) -> bytes:
    """Lossless; of photos a quarter to a third smaller than `as_png`, in two to four times the time."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "WEBP", lossless=True, quality=0, method=1)  # of lossless ones, quality means effort
    return file.getvalue()


def lossless(image: Image, max_bytes: int | None) -> tuple[str, bytes]:
    """(content type, body) with the very pixels: PNG, or WebP (smaller, slower to write) where PNG is beyond `max_bytes`.

    The smaller of the two where neither is small enough; the caller decides what then.
    """
    png = as_png(image)
    if max_bytes is None or len(png) <= max_bytes or max(image.shape) > WEBP_MAX_SIDE:
        return "image/png", png
    webp = as_webp(image)
    return ("image/webp", webp) if len(webp) < len(png) else ("image/png", png)


def media_type(header: str) -> str:
    """`Image/JPEG; q=1` -> `image/jpeg`."""
    return header.partition(";")[0].strip().lower()


def decode_picture(body: bytes, content_type: str, limits: Limits = REQUEST_LIMITS, npy_format: str = "BGR") -> Image:
    """(H, W, 3) uint8 RGB of a request's body; parameters and errors as `decode_body`."""
    return np.array(decode_body(body, content_type, limits, npy_format))


def decode_body(
    body: bytes, content_type: str, limits: Limits = REQUEST_LIMITS, npy_format: str = "BGR"
) -> Image | Pillow.Image:
    """A request's picture, of a file as Pillow's RGB: copying its pixels takes a third of the time of decoding them.

    npy_format: colour order of `application/x-npy` bodies; BGR is what Detectron2 users send.

    Raises:
        RequestError: 415 for an unknown type, 413 over the limits, 400 for everything else that is no picture.
    """
    kind = media_type(content_type)
    if kind not in REQUEST_TYPES:
        raise RequestError(
            "Content-Type", f"{kind or 'none'!r} is not understood", f"Send one of {', '.join(REQUEST_TYPES)}.", status=415
        )
    if len(body) > limits.max_bytes:
        raise RequestError(
            "body", f"has {len(body):,} bytes, more than {limits.max_bytes:,}", "Send a smaller picture.", status=413
        )
    if kind == NPY:
        pixels = decode_npy(body, limits)
        return pixels if npy_format == "RGB" else np.ascontiguousarray(pixels[:, :, ::-1])
    try:
        return decode_rgb(body, "body", limits)
    except ImageError as error:
        too_large = "more than" in error.what or "too large" in error.what
        raise RequestError(error.where, error.what, error.fix, status=413 if too_large else 400) from error


def decode_npy(body: bytes, limits: Limits) -> Image:
    """(H, W, 3) uint8 of a .npy body, whose header is read as text and checked before anything is allocated."""
    wrong = "Send (H, W, 3) uint8, written with numpy.save."
    if body[:6] != b"\x93NUMPY" or len(body) < 12 or body[6] not in (1, 2, 3):
        raise RequestError("body", f"is no .npy file (begins with {body[:6]!r})", wrong)
    start = 10 if body[6] == 1 else 12
    length = struct.unpack("<H" if body[6] == 1 else "<I", body[8:start])[0]
    if length > 10_000 or start + length > len(body):
        raise RequestError("body", "is a .npy file whose header is cut off or absurdly long", wrong)
    try:
        header = ast.literal_eval(body[start : start + length].decode("latin-1"))
        kind, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise RequestError("body", "is a .npy file with an unreadable header", wrong) from error
    if kind not in ("|u1", "u1", "<u1") or fortran is not False:
        raise RequestError("body", f"holds dtype {kind!r}, fortran_order {fortran!r}", wrong)
    if not (
        isinstance(shape, tuple) and len(shape) == 3 and all(type(side) is int and side > 0 for side in shape) and shape[2] == 3
    ):
        raise RequestError("body", f"holds an array of shape {shape!r}", wrong)
    height, width, _ = shape
    if height * width > limits.max_pixels or max(height, width) > limits.max_side:
        raise RequestError("body", f"is {width} x {height} px, more than allowed", "Send a smaller picture.", status=413)
    if len(body) - start - length != height * width * 3:
        raise RequestError("body", f"has {len(body) - start - length:,} bytes of pixels for shape {shape}", wrong)
    return np.frombuffer(body, dtype=np.uint8, offset=start + length).reshape(shape)
