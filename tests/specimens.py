"""Small sound label files of every format with their pictures, and ways to damage them. For the tests of damaged files."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builders import a_box, a_line, a_manifest, a_picture

from sightline import labels
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance

SIZE = ImageSize(80, 100)
POLYGON = ((10.0, 20.0, 40.0, 20.0, 40.0, 60.0),)
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>5</id><name>farm</name><labels><label><name>cat</name></label></labels></task>
</meta><image id="0" name="1.jpg" width="100" height="80"><box label="cat" occluded="0" xtl="10.00" ytl="20.00" xbr="40.00"
ybr="60.00" z_order="0"/><polygon label="cat" points="10.00,20.00;40.00,20.00;40.00,60.00"/><mask label="cat" rle="2, 1, 3, 1"
left="4" top="5" width="7" height="1"/><ellipse label="cat" cx="50" cy="40" rx="10" ry="20"/></image></annotations>"""
CVAT_VIDEO = """<annotations><meta><task><id>5</id><mode>interpolation</mode><labels><label><name>cat</name></label></labels>
<size>4</size><start_frame>0</start_frame><stop_frame>3</stop_frame><frame_filter></frame_filter><original_size><width>100</width>
<height>80</height></original_size></task></meta><track id="0" label="cat"><box frame="0" outside="0" occluded="0" keyframe="1"
xtl="10" ytl="20" xbr="40" ybr="60"/><box frame="2" outside="1" occluded="0" keyframe="1" xtl="20" ytl="20" xbr="50" ybr="60"/>
</track></annotations>"""
OPEN_IMAGES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside
1,xclick,/m/01yrx,1,0.1,0.4,0.25,0.75,0,0,0,0,0
2,xclick,/m/0bt9lr,1,0.1,0.4,0.25,0.75,0,0,1,0,0
"""
VIA_CSV = """filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
1.jpg,1,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{""type"":""cat""}"
"""
SEQUENCE = {"seq-no": 1, "prefix": "s3://b/v/", "number-of-frames": 1, "frames": [{"frame-no": 0, "frame": "1.jpg"}]}
FRAME = {"class-id": "2", "left": "10", "top": 20, "width": 30, "height": 40, "object-id": "d79c", "object-name": "Car:1"}
VIDEO_LINE = {
    "source-ref": "s3://b/v/seq1.json",
    "job-ref": "s3://b/job/0/SeqLabel.json",
    "job-ref-metadata": {
        "class-map": {"2": "Vehicle"},
        "creation-date": "2021-03-23T19:30:00+0000",
        "type": "groundtruth/video-object-tracking",
    },
}


@dataclass(frozen=True)
class Specimen:
    """A folder of sound labels. source: what is read; file: what is damaged; format: what it is read as."""

    folder: Path
    source: str
    file: str
    format: str

    @property
    def path(self) -> Path:
        return self.folder / self.source


SKU110K = """1.jpg,10,20,40,60,object,100,80
1.jpg,1,2,4,9,object,100,80
2.jpg,10,20,40,60,object,100,80
"""

WRITTEN = {
    "coco": "coco.json",
    "ground-truth": "output.manifest",
    "voc": "Annotations/1.xml",
    "yolo": "data.yaml",
    "via": "via_region_data.json",
    "labelme": "1.json",
    "label-studio": "tasks.json",
}
"""What the repository's own writers make: format -> a file of it."""

NAMES = [*WRITTEN, "yolo-text", "via-csv", "cvat", "cvat-video", "open-images", "sku110k", "adjusted", "video", "video-labels"]


def a_dataset(outlines: bool) -> Dataset:
    shapes = (
        Instance((10.0, 20.0, 40.0, 60.0), 0, segmentation=POLYGON if outlines else None),
        Instance((1.0, 2.0, 3.5, 9.0), 1),
    )
    images = tuple(ImageRecord(number, f"{number}.jpg", SIZE, shapes) for number in (1, 2))
    return Dataset((Category(1, "cat"), Category(2, "dog")), images)


def make(name: str, folder: Path) -> Specimen:
    """The specimen `name` in the new folder `folder`, with its pictures."""
    for place in (folder, folder / "images", folder / "JPEGImages"):
        for number in (1, 2):
            a_picture(place / f"{number}.jpg", SIZE)
    if name in WRITTEN or name == "yolo-text":
        format = "yolo" if name == "yolo-text" else name
        one_file = format in labels.FILES
        file = WRITTEN[format]
        labels.write(
            a_dataset(format in {"coco", "via", "labelme"}),
            folder / file if one_file else folder,
            format=format,
            **({"prefix": "s3://b"} if format == "ground-truth" else {}),
        )
        if name == "yolo-text":
            file = str(next(folder.rglob("labels/**/1.txt")).relative_to(folder))
        return Specimen(folder, file if one_file else ".", file, format)
    file, format, text = others(folder)[name]
    source = "manifests/output/output.manifest" if name == "video-labels" else file
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text, encoding="utf-8")
    return Specimen(folder, source, file, format)


def others(folder: Path) -> Mapping[str, tuple[str, str, str]]:
    """{name: (file, format, its text)}, and what has to lie beside."""
    (folder / "class-descriptions-boxable.csv").write_text("/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    frames = json.dumps({"tracking-annotations": [{"frame-no": "0", "frame": "1.jpg", "annotations": [FRAME]}]})
    for name, text in {"v/seq1.json": json.dumps(SEQUENCE), "job/0/SeqLabel.json": frames}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    a_picture(folder / "v/1.jpg", SIZE)
    (folder / "manifests/output").mkdir(parents=True)
    manifest = a_manifest(folder / "manifests/output/output.manifest", [VIDEO_LINE])
    line = a_line(boxes=[a_box(), a_box(left=1.25)])
    newer = {"adjustment-status": "adjusted", "creation-date": "2030-01-01T00:00:00"}
    adjusted = {
        key: value | newer if key == "again-metadata" else value
        for key, value in a_line("s3://bucket/images/2.jpg", attribute="again").items()
    }
    return {
        "via-csv": ("via.csv", "via", VIA_CSV),
        "cvat": ("annotations.xml", "cvat", CVAT),
        "cvat-video": ("annotations.xml", "cvat", CVAT_VIDEO),
        "open-images": ("validation-annotations-bbox.csv", "open-images", OPEN_IMAGES),
        "sku110k": ("annotations/annotations_train.csv", "sku110k", SKU110K),
        "adjusted": ("adjusted.manifest", "ground-truth", f"{json.dumps(line)}\n{json.dumps(line | adjusted)}\n"),
        "video": ("manifests/output/output.manifest", "ground-truth", manifest.read_text()),
        "video-labels": ("job/0/SeqLabel.json", "ground-truth", frames),
    }


PIECES = [b"", b"\0", b"\xff\xfe", b"../", b"nan", b"1e999", b"-", b"[", b"{", b"}", b'"', b"<!DOCTYPE a>", b"null", b"\\ud800"]
PIECES += [
    b"9" * 5000,
    b"&a;",
    b"\n",
    b"*",
    b"&x ",
    b"!!python/object:os.system ",
    b"true",
    b'""',
    b"[" * 2000,
    b"\xef\xbb\xbf",
]
BARE = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"0",
    b"0.0",
    b"1e-320",
    b"1.5",
    b"9" * 400,
    b"-" + b"9" * 400,
    b"true",
]
BARE += [
    b"false",
    b"null",
    b"[]",
    b"{}",
    b'"12"',
    b'""',
    b"[[[]]]",
    b'{"a": {}}',
    b"9" * 5000,
    b"2147483648",
    b"1e15",
    b"1e300",
]
QUOTED = [
    b"../../x",
    b"/etc/passwd",
    b"..\\\\..\\\\x",
    b"C:\\\\x",
    b"C:x",
    b"file:///etc/passwd",
    b"http://h/a.jpg",
    b"s3://",
    b"s3://b",
]
QUOTED += [
    b"",
    b" ",
    b".",
    b"..",
    b"a/../../x",
    b"\\ud800",
    b"\\u0000",
    b"\\udfff.jpg",
    b"con.jpg",
    b"a" * 5000,
    b"12",
    b"nan",
    b"1e999",
]
QUOTED += [
    b"true",
    b"&lt;",
    b"&bomb;",
    b"%00",
    "ﬁ\u202e.jpg".encode(),
    b"\xff",
    b"rect",
    b"polygon",
    b"groundtruth/object-detection",
]
TOKEN = re.compile(rb'"[^"\n]*"|-?[\w.]+')


def damaged(text: bytes, choose: Callable[[int], int]) -> bytes:
    """`text` with one to four of its pieces exchanged, cut, doubled or moved. choose(n): a number from 0 to n."""
    for _ in range(1 + choose(3)):
        start = choose(len(text))
        end = min(len(text), start + choose(12))
        kind = choose(4)
        if kind == 0:
            text = text[:start] + PIECES[choose(len(PIECES) - 1)] + text[end:]
        elif kind == 1:
            text = text[:start]
        elif kind == 2:
            text = text[:end] + text[start:]
        elif kind == 3:
            text = text[:start] + text[end:]
        else:
            text = text[:start] + bytes([choose(255)]) + text[end:]
    return text


def changed(text: bytes, choose: Callable[[int], int]) -> bytes:
    """`text` with one to three of its words or numbers replaced by what nobody expects; mostly still well formed."""
    for _ in range(1 + choose(2)):
        tokens = list(TOKEN.finditer(text))
        if not tokens:
            return text
        token = tokens[choose(len(tokens) - 1)]
        quoted = token.group().startswith(b'"')
        if choose(3) == 0:
            other = tokens[choose(len(tokens) - 1)].group()  # a word from elsewhere: keys twice, numbers for names
        elif quoted and choose(3):
            other = b'"' + QUOTED[choose(len(QUOTED) - 1)] + b'"'
        else:
            other = (BARE if quoted or choose(2) else QUOTED)[choose(min(len(BARE), len(QUOTED)) - 1)]
        text = text[: token.start()] + other + text[token.end() :]
    return text


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))
