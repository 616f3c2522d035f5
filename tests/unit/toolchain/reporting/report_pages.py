"""Reads a report's page back: its tables, its data, its elements."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Cell:
    """What a cell shows, and the number behind it, as text ("" for nothing)."""

    text: str = ""
    value: str | None = None


@dataclass
class Page(HTMLParser):
    """Elements by name with their attributes; rows of bodies by table; texts of scripts."""

    tables: dict[str, list[list[Cell]]] = field(default_factory=dict)
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    table: str = ""
    inside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.elements.append((tag, named))
        if tag == "table":
            self.table = named["data-table"] or ""
            self.tables.setdefault(self.table, [])
        if tag in ("thead", "tbody", "tfoot"):
            self.inside.append(tag)
        if tag == "script":
            self.scripts.append("")
        if self.inside[-1:] == ["tbody"]:
            if tag == "tr":
                self.tables[self.table].append([])
            if tag == "td":
                self.tables[self.table][-1].append(Cell(value=named.get("data-v")))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("thead", "tbody", "tfoot"):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.scripts:
            self.scripts[-1] += data
        if self.inside[-1:] == ["tbody"] and self.tables[self.table]:
            row = self.tables[self.table][-1]
            if row:
                row[-1].text += data

    @property
    def data(self) -> Any:
        """The data island."""
        return json.loads(self.scripts[0])


def read_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page
