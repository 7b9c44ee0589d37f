"""Bundles with random weights for `sightline benchmark`: R50-FPN, R101-FPN and the small one, with proposals as if trained.

python benchmarks/cost_models.py FOLDER [small r50 r101]
sightline benchmark FOLDER/r101.tar.gz --images PICTURES --instance-type ml.c5.large ml.m5.xlarge -o measured/r101
"""

import sys
from pathlib import Path

import serve_speed

serve_speed.CONFIGURATIONS["r101"] = "COCO-Detection/faster_rcnn_R_101_FPN_3x"

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or serve_speed.CONFIGURATIONS:
        print(serve_speed.bundle(name, folder, None, None))
