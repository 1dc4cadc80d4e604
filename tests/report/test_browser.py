"""The pages as a reader's browser shows them."""

import io

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def test_pages_of_a_failed_run_pass(check_pages, small_run):
    check_pages(small_run.folder)


def test_figures_enlarge_on_a_phone_and_close_again(open_page):
    page = open_page(390)
    page.locator("a.enlarge").first.click()
    image = page.locator("dialog[open] img")
    assert image.bounding_box()["width"] > 800 > page.locator("figure img").first.bounding_box()["width"]
    image.click()
    assert page.locator("dialog[open]").count() == 0


@pytest.fixture
def open_page(browser, small_run):
    """Return a function that opens the first page of the small run in a window of some width."""
    with browser.new_context(bypass_csp=True) as context:

        def open_page(width):
            page = context.new_page()
            page.set_viewport_size({"width": width, "height": 600})
            page.goto((small_run.folder / "first.html").as_uri())
            return page

        yield open_page


def test_in_the_dark_a_chart_has_dark_paper_and_imagery_its_own(browser, small_run):
    charts = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto((small_run.folder / "first.html").as_uri())
        image = page.locator("figure.image img").first
        shot = Image.open(io.BytesIO(image.screenshot())).convert("L")
        charts[scheme] = shot.getpixel((shot.width // 2, shot.height // 10))
        as_webp = "image => { image.src = image.src.replace(/^.*?,/, 'data:image/webp,'); }"
        image.evaluate(as_webp)
        assert "invert" not in image.evaluate("image => getComputedStyle(image).filter")
        page.close()
    assert charts["light"] > 250 and charts["dark"] < 50


def test_contents_are_folded_on_a_phone_and_open_on_a_desktop(open_page):
    assert open_page(1280).locator(".contents a").first.is_visible()
    page = open_page(390)
    link = page.locator(".contents a").first
    assert not link.is_visible()
    page.locator(".contents summary").click()
    assert link.is_visible()


def test_wide_tables_scroll_by_keyboard_in_their_own_box(open_page):
    page = open_page(390)
    box = page.get_by_role("region", name="Table: Wide, with a best value.")
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())
    assert box.evaluate("box => box.clientWidth") <= 390  # the page itself did not widen


def test_formulas_are_laid_out_as_mathematics(open_page):
    fraction = open_page(1280).locator(".formula mfrac").first
    above, below = (fraction.locator("> *").nth(k).bounding_box() for k in (0, 1))
    assert above["y"] + above["height"] <= below["y"] + 1


def test_printing_leaves_out_what_paper_cannot_use(open_page):
    page = open_page(1280)
    page.emulate_media(media="print")
    assert not page.locator(".contents").is_visible()
    assert not page.locator("details.code").first.is_visible()
    assert page.locator("figure img").first.is_visible()
