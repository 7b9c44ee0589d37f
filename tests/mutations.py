"""Requests that are nearly right: valid ones with bytes flipped, cut, doubled. The same number gives the same request."""

import io
import random
from functools import cache

import numpy as np
from PIL import Image as Pillow

KINDS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "tiff": "TIFF"}
QUERIES = ("", "?threshold=0.5", "?classes=bee", "?max_detections=1&masks=off", "?npy_format=RGB")
ODD = ("", "-1", "nan", "1e999", "9" * 400, "%00", "%FF%FE", "null", "{}", "a" * 300, "0x10", "٣".encode().decode("latin-1"))
HEADERS = (
    "Accept",
    "Content-Type",
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Request-Id",
    "Expect",
    "Transfer-Encoding",
    "Range",
)
TARGETS = ("/ping", "/invocations", "/model", "/metrics", "/openapi.json", "/", "/nowhere", "/invocations/..;/ping", "*")
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "TRACE", "DELETE", "BREW")


@cache
def pictures() -> dict[str, bytes]:
    """Content type -> a good body."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    bodies = {}
    for name, kind in KINDS.items():
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, kind)
        bodies[f"image/{name}"] = file.getvalue()
    file = io.BytesIO()
    np.save(file, pixels)
    bodies["application/x-npy"] = file.getvalue()
    return bodies


def shaken(data: bytes, rng: random.Random) -> bytes:
    """`data` with one to four injuries; half of them within the first 100 bytes, where lengths and formats are told."""
    hurt = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        end = max(len(hurt), 1)
        at = rng.randrange(min(end, 100) if rng.random() < 0.5 else end)
        length = rng.choice((1, 2, 4, 16, 200))
        match rng.randrange(6):
            case 0:
                hurt[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del hurt[at : at + length]
            case 2:
                hurt[at:at] = rng.randbytes(length)
            case 3:
                hurt[at : at + 4] = rng.choice(
                    (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00")
                )
            case 4:
                hurt[at:at] = hurt[at : at + length]
            case 5:
                del hurt[at:]
    return bytes(hurt) or data[:1]  # a client that says nothing at all is just idle


def mutated(number: int) -> bytes:
    """The bytes of request `number`: the picture hurt, the parameters, a header, the framing, or all of it."""
    rng = random.Random(number)
    kind, body = rng.choice(sorted(pictures().items()))
    method, target, headers = "POST", "/invocations" + rng.choice(QUERIES), {"Host": "h", "Content-Type": kind}
    how = rng.randrange(10)
    if how <= 4:
        body = shaken(body, rng)
    elif how == 5:
        name = rng.choice(("threshold", "max_detections", "classes", "masks", "npy_format", "x"))
        target = f"/invocations?{name}={rng.choice(ODD)}"
    elif how == 6:
        headers[rng.choice(HEADERS)] = rng.choice((*ODD, "threshold=" + rng.choice(ODD), "chunked", "100-continue", "*/*;q=x"))
    elif how == 7:
        method, target = rng.choice(METHODS), rng.choice(TARGETS)
    length = rng.choice((len(body), len(body), len(body), len(body) - 1, 0)) if how == 8 else len(body)
    headers = {**headers, "Content-Length": str(length), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body
    return shaken(request, rng) if how == 9 else request
