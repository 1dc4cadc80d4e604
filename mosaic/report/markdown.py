"""Markdown with formulas to HTML with MathML, so that a page needs no script to show them."""

import html
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import mistune
from latex2mathml.converter import convert

_TAG = re.compile(r"<[^>]*>")
#: Formulas as Jupyter knows them: ``$a$``, ``$$a$$``, environments; code is matched first, to be left alone.
_FORMULA = re.compile(
    r"(?P<code>^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<tick>`+).+?(?P=tick))"
    r"|(?<!\\)\$\$(?P<display>.+?)\$\$"
    r"|(?P<environment>\\begin\{(?P<name>\w+\*?)\}.*?\\end\{(?P=name)\})"
    r"|(?<!\\)\$(?P<inline>(?!\s)(?:[^$\n]|\n(?!\s*\n))+?(?<![\s\\]))\$(?!\d)",
    re.DOTALL | re.MULTILINE,
)
_PLACE = re.compile("\x02(\\d+)\x03")
_THIN_SPACE = '<mspace width="0.1667em"/>'
#: A named function directly before its argument, e.g. ``log p``: MathML puts no space there, TeX does.
_FUNCTION = re.compile(
    r"(<mi>(?:log|exp|max|min|sin|cos|tan|ln|det|arg)</mi>)(?=<m(?:i|n|sub|sup|frac|row><mi)\b)"
)


@dataclass(frozen=True)
class Heading:
    """One entry of a table of contents: level 1 to 6, HTML without links, and the id it jumps to."""

    level: int
    html: str
    id: str


def mathml(tex: str, *, block: bool = False) -> str:
    """Return a LaTeX formula as MathML; what cannot be converted stays readable as its LaTeX source."""
    try:
        formula = convert(tex.strip(), display="block" if block else "inline")
    except Exception:  # the converter raises many kinds; a page must not be lost to one formula
        return f"<code>{html.escape(tex.strip())}</code>"
    formula = _FUNCTION.sub(rf"\1{_THIN_SPACE}", formula)
    if not block:
        return formula
    # A span, because Markdown puts display formulas inside a paragraph.
    return f'<span class="formula" role="group" tabindex="0" aria-label="Formula">{formula}</span>'


def plain(fragment: str) -> str:
    """Return the text of an HTML fragment."""
    return html.unescape(_TAG.sub("", fragment)).strip()


def scroll_box(content: str, label: str) -> str:
    """Wrap what may be wider than the page in a box that scrolls, also by keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label)}">{content}</div>'


class _Renderer(mistune.HTMLRenderer):
    """Ids on headings, tables in scrolling boxes."""

    def __init__(self) -> None:
        super().__init__(escape=False)
        self.headings: list[Heading] = []
        self._names: Counter[str] = Counter()

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        slug = re.sub(r"\W+", "-", plain(_PLACE.sub("", text)).lower()).strip("-") or "section"
        self._names[slug] += 1
        anchor = slug if self._names[slug] == 1 else f"{slug}-{self._names[slug]}"
        self.headings.append(Heading(level, re.sub(r"</?a\b[^>]*>", "", text), anchor))
        # A page has one title, made by the template; the notebook's own H1 is not repeated below it.
        return "" if level == 1 else f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        header = plain(_TAG.sub(" ", _PLACE.sub("", text.split("</thead>")[0]))).split()
        cells = re.sub(r"<th\b", '<th scope="col"', text)
        return scroll_box(f"<table>{cells}</table>", f"Table: {' '.join(header)}")

    def block_code(self, code: str, info: str | None = None) -> str:
        return super().block_code(code, info).replace("<pre>", '<pre tabindex="0">', 1)


class Prose:
    """Renders the Markdown of one page: heading ids are unique on it and are collected in order."""

    def __init__(self) -> None:
        self._formulas: list[str] = []
        self._renderer = _Renderer()
        self._markdown = mistune.create_markdown(
            escape=False, renderer=self._renderer, plugins=["table", "strikethrough", "footnotes", "def_list"]
        )

    @property
    def headings(self) -> list[Heading]:
        """Headings met so far."""
        return [Heading(one.level, self._put_back(one.html), one.id) for one in self._renderer.headings]

    def __call__(self, source: str) -> str:
        """Return ``source`` as HTML."""
        return self._put_back(str(self._markdown(_FORMULA.sub(self._take_out, source))))

    def inline(self, source: str) -> str:
        """Return one line as HTML: emphasis, links, code and formulas, but no blocks."""
        tokens = self._markdown.inline(_FORMULA.sub(self._take_out, source.strip()), {})
        return self._put_back(self._renderer.render_tokens(tokens, self._markdown.block.state_cls()))

    def _take_out(self, match: re.Match[str]) -> str:
        """Replace a formula by a mark that Markdown leaves alone: its signs mean other things there."""
        if match["code"]:
            return match[0]
        block = match["inline"] is None
        self._formulas.append(
            mathml(match["inline"] or match["display"] or match["environment"], block=block)
        )
        return f"\x02{len(self._formulas) - 1}\x03"

    def _put_back(self, rendered: str) -> str:
        return _PLACE.sub(lambda match: self._formulas[int(match[1])], rendered)


def inline(source: str) -> str:
    """Return one line of Markdown as HTML: emphasis, links, code and formulas, but no blocks."""
    return Prose().inline(source)
