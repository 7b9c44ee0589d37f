"""Pictures that show the same: within the data set, and across the parts of a split, where they make scores too high."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.dataset.alike import clusters, count_bits
from sightline.dataset.check.findings import Finding, Gravity
from sightline.dataset.check.subject import Picture

MAX_NAMED = 4


def findings_of(pictures: Sequence[Picture], fingerprints: NDArray[np.uint64]) -> Iterator[Finding]:
    """One finding for each group of pictures that show the same. fingerprints: (N, 4), zero where there is none."""
    for members in clusters(fingerprints) if fingerprints.any() else ():
        alike = [pictures[index] for index in members]
        first = alike[0]
        second = next((picture for picture in alike if picture.part != first.part), alike[1])
        equal = not (fingerprints[members] != fingerprints[members[0]]).any()
        parts = sorted({picture.part for picture in alike if picture.part})
        how = "look the same" if equal else "look much the same"
        named = ", ".join(f"{picture.name} ({picture.part})" if picture.part else picture.name for picture in alike[:MAX_NAMED])
        more = f" and {len(alike) - MAX_NAMED:,} more" if len(alike) > MAX_NAMED else ""
        yield Finding(
            kind="leak" if len(parts) > 1 else "near-duplicate",
            where=first.name,
            what=f"{len(alike)} pictures {how}: {named}{more}",
            picture=first.name,
            beside=second.name,
            gravity=Gravity.WARNING if len(parts) > 1 and "train" not in parts else None,
            weight=len(alike) * 1000.0 - float(count_bits(fingerprints[members[0]] ^ fingerprints[members[1]]).sum()),
        )
