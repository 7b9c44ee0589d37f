"""Names that the platform accepts and nobody else has, and the tags by which everything of ours is found again."""

import re
from collections.abc import Mapping
from datetime import datetime

import sightline

TAG = "sightline:"
"""Before every tag of ours."""

MADE_BY, KIND, OWNER, FACTS = f"{TAG}made-by", f"{TAG}kind", f"{TAG}of", f"{TAG}facts"
"""Tags: which version made it, what it is, of what it is a part (an endpoint's name), where a model's class names are."""

MAX_NAME = 63
"""Letters of the name of a job, a model, an endpoint or its configuration."""

MAX_TUNING_NAME = 32
"""Letters of a tuning job's name: the platform appends to it for each training job."""

STAMP = "%Y%m%d-%H%M%S"


def plain_name(text: str, longest: int = MAX_NAME) -> str:
    """`text` with nothing but letters, digits and single hyphens, cut to `longest`; `sightline` where nothing is left."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", text).strip("-")[:longest].rstrip("-") or "sightline"


def unique_name(text: str, moment: datetime, longest: int = MAX_NAME) -> str:
    """`parts` -> `parts-20261121-191500`: the platform takes no name twice, not even of a job that is over."""
    stamp = moment.strftime(STAMP)
    return f"{plain_name(text, longest - len(stamp) - 1)}-{stamp}"


def tags(kind: str, own: Mapping[str, str], of: str = "") -> list[dict[str, str]]:
    """The tags of a resource as most services take them: ours, then `own`.

    kind: `training-job`, `endpoint`, ...; of: the endpoint that it was made for
    """
    ours = {MADE_BY: f"sightline {sightline.__version__}", KIND: kind, **({OWNER: of} if of else {})}
    return [{"Key": key, "Value": value} for key, value in {**ours, **own}.items()]
