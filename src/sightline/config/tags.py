"""The two Python tags that Detectron2's configuration files really hold, read without running anything.

`!!python/object/apply:eval ["..."]` stands in its RetinaNet files, around anchor sizes: read as arithmetic on numbers.
`!!python/tuple [...]` stands in dumps of old versions. All other tags stay refused, as PyYAML's safe loader does it.
"""

import yaml

from sightline.config.arithmetic import Value, evaluate

MAX_VALUES = 100_000
"""Values of a file, each counted as often as aliases (`*name`) repeat it: a kilobyte of aliases can unfold to gigabytes."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, and the two tags."""


def arithmetic(loader: Loader, node: yaml.Node) -> Value:
    """`!!python/object/apply:eval`: one text."""
    texts = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
    mark = node.start_mark
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise yaml.constructor.ConstructorError(None, None, "python/object/apply:eval takes one text", mark)
    return evaluate(texts[0], f"{mark.name}, line {mark.line + 1}")


def a_tuple(loader: Loader, node: yaml.Node) -> tuple[object, ...]:
    """`!!python/tuple`: a sequence."""
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, "python/tuple takes a list", node.start_mark)
    return tuple(loader.construct_sequence(node, deep=True))


Loader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", arithmetic)
Loader.add_constructor("tag:yaml.org,2002:python/tuple", a_tuple)


def load_yaml(text: str, where: object) -> object:
    """What a YAML text holds. `where` is named in PyYAML's errors.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is no YAML, or holds other tags, or unfolds to too much.
        ConfigError: what stands behind the eval tag is no arithmetic.
    """
    loader = Loader(text)
    loader.name = str(where)
    try:
        tree = loader.get_single_data()
    finally:
        loader.dispose()
    count_values(tree)
    return tree


def count_values(tree: object) -> None:
    """Nothing, if there are few enough. An alias inside what it names has no end, and is found here, too."""
    waiting, counted = [tree], 0
    while waiting:
        value = waiting.pop()
        counted += 1
        if counted > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)
