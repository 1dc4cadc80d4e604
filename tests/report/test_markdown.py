import html

import pytest

from mosaic.report.markdown import Markdown, inline, mathml, plain


def test_heading_ids_are_unique_and_the_title_is_not_repeated():
    markdown = Markdown()
    text = markdown("# Title\n\n## A part") + markdown("## A part\n\n### Loss $L_i$ (a)")
    assert [heading.id for heading in markdown.headings] == ["title", "a-part", "a-part-2", "loss-a"]
    assert "<h1" not in text
    assert '<h2 id="a-part-2">' in text
    assert "<math" in markdown.headings[3].html


def test_formulas_become_mathml():
    text = Markdown()("If $a < b$:\n\n$$\\sum_{i=1}^N x_i$$\n\n\\begin{cases}1 & x\\\\0 & y\\end{cases}")
    assert text.count("<math") == 3
    assert text.count('display="block"') == 2
    assert "$" not in text and "\\" not in text
    assert "<munderover>" in text  # limits above and below, as in display style
    # one that cannot be converted stays readable
    assert mathml(r"\frac{") == r"<code>\frac{</code>"


@pytest.mark.parametrize(
    "source", ["1. not a list", "- 0.02 less", "# 3 of them", "in <script>x</script> & <!-- y -->"]
)
def test_inline_makes_no_blocks_and_no_tags_and_plain_has_none(source):
    assert inline(source) == html.escape(source)
    assert plain("<b>a</b> &amp; <i>b</i>") == "a & b"


def test_tables_scroll_name_their_columns_and_keep_their_formulas():
    text = Markdown()("| a | b |\n|---|--:|\n| $x_i * y_j * z$ | $a*b*c$ |")
    assert text.count('<th scope="col"') == text.count("<td") == text.count("<math") == 2
    assert 'role="region" tabindex="0"' in text
    assert "<em>" not in text


@pytest.mark.parametrize(
    "source",
    [
        "it costs $5 and $6",
        r"\$a\$ is text",
        "a $ b $ c",
        "`$HOME/a` and `b$`",
        "```\n$a$\n```\n\nand `$c$`.",
    ],
)
def test_dollars_of_money_and_code_stay(source):
    assert "<math" not in Markdown()(source)
