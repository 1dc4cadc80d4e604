"""Markdown with formulas to HTML with MathML, so that a page needs no script to show them."""

import html
import re
from collections import Counter
from typing import Any, NamedTuple

from latex2mathml.converter import convert
from mistune import BlockParser, BlockState, HTMLRenderer, create_markdown
from mistune import Markdown as Parser

# mistune alone: nbconvert's dialect costs each notebook 2 s, as it loads validators of JSON
_PLUGINS = ("table", "strikethrough", "footnotes", "def_list", "math")
#: A named function directly before its argument, e.g. ``log p``: MathML puts no space there, TeX does.
_FUNCTION = re.compile(
    r"(<mi>(?:log|exp|max|min|sin|cos|tan|ln|det|arg)</mi>)(?=<m(?:i|n|sub|sup|frac|row><mi)\b)"
)


class Heading(NamedTuple):
    """One entry of a table of contents: level 1 to 6, HTML without links, and the id it jumps to."""

    level: int
    html: str
    id: str


def mathml(tex: str, *, block: bool = False) -> str:
    """Return a LaTeX formula as MathML; one that cannot be converted stays readable as its source."""
    try:
        formula = convert(tex.strip(), display="block" if block else "inline")
    except Exception:  # the converter raises many kinds; a page must not be lost to one formula
        return f"<code>{html.escape(tex.strip())}</code>"
    formula = _FUNCTION.sub(r'\1<mspace width="0.1667em"/>', formula)  # a thin space
    if not block:
        return formula
    # A span, because Markdown puts display formulas inside a paragraph.
    return f'<span class="formula" role="group" tabindex="0" aria-label="Formula">{formula}</span>'


def plain(fragment: str) -> str:
    """Return the text of an HTML fragment."""
    return html.unescape(re.sub(r"<[^>]*>", "", fragment)).strip()


def scroll_box(content: str, label: str) -> str:
    """Wrap what may be wider than the page in a box that scrolls, also by keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label)}">{content}</div>'


class _Renderer(HTMLRenderer):
    """Formulas as MathML, ids on headings, tables in scrolling boxes."""

    def __init__(self, escape: bool = False) -> None:
        super().__init__(escape=escape)
        self.headings: list[Heading] = []
        self._slugs: Counter[str] = Counter()

    def block_math(self, text: str) -> str:
        return mathml(text, block=True)

    def inline_math(self, text: str) -> str:
        return mathml(text)

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        words = plain(re.sub(r"<math.*?</math>", "", text))
        slug = re.sub(r"\W+", "-", words.lower()).strip("-") or "section"
        self._slugs[slug] += 1
        anchor = slug if self._slugs[slug] == 1 else f"{slug}-{self._slugs[slug]}"
        self.headings.append(Heading(level, re.sub(r"</?a\b[^>]*>", "", text), anchor))
        # A page has one title, made by the template; the notebook's own H1 is not repeated below it.
        return "" if level == 1 else f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        header = plain(text.split("</thead>")[0].replace("<", " <")).split()
        cells = re.sub(r"<th\b", '<th scope="col"', text)
        return scroll_box(f"<table>{cells}</table>", f"Table: {' '.join(header)}")

    def block_code(self, code: str, info: str | None = None) -> str:
        return str(super().block_code(code, info)).replace("<pre>", '<pre tabindex="0">', 1)


def _latex_environment(md: Parser) -> None:
    r"""Read ``\begin{cases} ... \end{cases}`` as a formula, as Jupyter does."""

    def parse(_: BlockParser, match: re.Match[str], state: BlockState) -> int:
        state.append_token({"type": "block_math", "raw": match[0].strip()})
        return match.end()

    pattern = r"^ {0,3}\\begin\{(?P<environment>[a-z]+\*?)\}[\s\S]*?\\end\{(?P=environment)\}"
    md.block.register("latex_environment", pattern, parse, before="list")


def _parser(renderer: _Renderer) -> Parser:
    return create_markdown(renderer=renderer, plugins=[*_PLUGINS, _latex_environment])


class Markdown:
    """Renders the Markdown of one page: heading ids are unique on it and ``headings`` collects them."""

    def __init__(self) -> None:
        renderer = _Renderer()
        self.headings, self._parser = renderer.headings, _parser(renderer)

    def __call__(self, source: str) -> str:
        """Return ``source`` as HTML."""
        return str(self._parser(source))


def inline(source: str) -> str:
    """Return one line of Markdown as HTML: emphasis, links, code, formulas; no blocks, tags or entities.

    A line may hold names from an archive, such as those of places.
    """
    renderer = _Renderer(escape=True)
    parser = _parser(renderer)
    return str(renderer.render_tokens(parser.inline(source.strip(), {}), parser.block.state_cls()))
