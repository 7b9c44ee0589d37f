"""The `opts` string of SageMaker jobs for Detectron2: `KEY VALUE` pairs in one text, values as Python writes them."""

from sightline.errors import ConfigError

CLOSING = {"(": ")", "[": "]", "{": "}"}
QUOTES = "'\""


def split_opts(text: str) -> list[str]:
    """The words of `SOLVER.IMS_PER_BATCH 16 SOLVER.STEPS (20, 30) MODEL.WEIGHTS 'a b.pth'`, as `load` takes overrides.

    Spaces within brackets and quotes do not divide. Quotes stay, as Detectron2 reads them: `''` is empty text. A quote
    counts where a word begins or within brackets, so that `it's.pth` is one word.

    Raises:
        ConfigError: a bracket or quote that is never closed, or closed without being open.
    """
    words: list[str] = []
    word = ""
    open_at: list[tuple[str, int]] = []  # what closes it, where it was opened; a quote is always the last
    for position, letter in enumerate(text):
        within_quotes = bool(open_at) and open_at[-1][0] in QUOTES
        if open_at and letter == open_at[-1][0]:
            open_at.pop()
        elif within_quotes:
            pass
        elif letter in QUOTES and (open_at or not word):
            open_at.append((letter, position))
        elif letter in CLOSING:
            open_at.append((CLOSING[letter], position))
        elif letter in CLOSING.values():
            raise ConfigError("opts", f"{letter!r} at character {position + 1} closes nothing: {text}", "Balance the brackets.")
        if letter.isspace() and not open_at:
            words.append(word)
            word = ""
        else:
            word += letter
    if open_at:
        position = open_at[-1][1]
        raise ConfigError("opts", f"{text[position]!r} at character {position + 1} is never closed: {text}", "Close it.")
    return [word for word in [*words, word] if word]
