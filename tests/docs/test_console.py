"""The reader of Markdown reads what people see."""

from docs import console

PAGE = """# Title

```console
$ one --option "a # b"   # why
its output
  more
$ two \\
    --long
$ for n in 1 2; do
    three $n
  done
```

- in a list:

  ```bash
  # a comment
  four <<'EOF'
  a
  EOF
  five
  ```

```
$ none
```

```python
import six
```
"""


def test_commands_with_their_lines_and_output() -> None:
    found = list(console.commands("page.md", PAGE))
    assert [(one.line, one.text, one.shown) for one in found[:3]] == [
        (4, 'one --option "a # b"', ("its output", "  more")),
        (7, "two \\\n    --long", ()),
        (9, "for n in 1 2; do\n    three $n\n  done", ()),
    ]
    assert [(one.line, one.text) for one in found[3:]] == [(18, "four <<'EOF'\na\nEOF"), (21, "five"), (29, "import six\n")]
    assert str(found[0]) == 'page.md:4: one --option "a # b"'


def test_blocks_that_are_nothing_to_run_are_blocks_all_the_same() -> None:
    assert [(block.line, block.language) for block in console.blocks("page.md", PAGE)] == [
        (4, "console"), (17, "bash"), (25, ""), (29, "python"),
    ]  # fmt: skip
