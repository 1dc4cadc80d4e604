"""The pages of a whole run, in a browser."""

import pytest

pytestmark = pytest.mark.slow


def test_pages_of_the_smoke_run_pass(check_pages, smoke_run):
    check_pages(smoke_run)


def test_every_table_of_a_run_fits_a_desktop(browser, smoke_run):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    boxes = "boxes => boxes.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.ariaLabel)"
    for path in sorted(smoke_run.glob("0*.html")):
        page.goto(path.as_uri())
        assert page.eval_on_selector_all("figure.table .scroll", boxes) == [], path.name
    page.close()
