"""The documentation as it is written: its pages, and the code blocks in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<'(?P<end>\w+)'[^\n]*\n.*?^(?P=end)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: the name of its page's file.
        line: where it begins, from 1.
        info: what follows the fence: the language, and perhaps `{.class}` or `title="file"`.
        text: its content.
    """

    page: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @cached_property
    def language(self) -> str:
        return self.info.split(" ")[0]

    @cached_property
    def marks(self) -> list[str]:
        """The classes in its info string: what it needs that a test does not have."""
        return re.findall(r"\.([\w-]+)", self.info.partition("{")[2])

    @cached_property
    def file(self) -> str | None:
        """The file whose content it is."""
        title = re.search(r'title="([^"]+)"', self.info)
        return title and title[1]

    @cached_property
    def commands(self) -> list[str]:
        """The commands of a shell block, each with its lines and what it is given to read."""
        joined = HEREDOC.sub(lambda match: match[0].replace("\n", "\0"), self.text)
        lines = re.sub(r"\\\n\s*", "", joined).split("\n")
        return [line.replace("\0", "\n") for line in lines if line.strip() and not line.startswith("#")]


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page in their order."""
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        yield Block(page.name, text.count("\n", 0, match.start()) + 1, match["info"].strip(), match["text"])


def outside_of_blocks(page: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))
