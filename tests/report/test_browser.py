"""The pages as a reader's browser shows them."""

import io
import shutil

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
#: Colour scheme and width of the window, in CSS pixels.
WINDOWS = {"light, desktop": ("light", 1280), "dark, phone": ("dark", 390)}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium found: install the `chromium` package to check the pages in a browser")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def check_pages(browser, folder):
    """Check every page of a run, on a light desktop and on a dark phone."""
    pages = sorted(folder.glob("*.html"))
    assert folder / "index.html" in pages
    for window, (scheme, width) in WINDOWS.items():
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        for path in pages:
            check_page(context, path, f"{path.name}, {window}")
        context.close()


def check_page(context, path, where):
    page = context.new_page()
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(path.as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()], where
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{where}: too wide"
    broken = "images => images.filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.alt)"
    assert page.eval_on_selector_all("img", broken) == [], where
    assert dead_links(page, path.parent) == [], where
    page.evaluate("document.querySelectorAll('details').forEach(box => box.open = true)")
    assert violations(page) == [], where
    assert messages == [], where
    page.close()


def violations(page):
    """Return what axe-core finds of serious or critical weight: rule and element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in axe.Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def dead_links(page, folder):
    """Return links to ids or pages that do not exist; links to other sites are not followed."""
    links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.getAttribute('href'))")
    ids = set(page.eval_on_selector_all("[id]", "all => all.map(one => one.id)"))
    inner = [link for link in links if link.startswith("#") and link[1:] not in ids]
    outer = [link for link in links if not link.startswith(("#", "http")) and not (folder / link).exists()]
    return inner + outer


def test_pages_of_a_failed_and_of_the_smoke_run(browser, small_run, smoke_run):
    check_pages(browser, small_run.folder)
    check_pages(browser, smoke_run)


def test_every_table_of_a_run_fits_a_desktop(browser, smoke_run):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    boxes = "boxes => boxes.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.ariaLabel)"
    for path in sorted(smoke_run.glob("0*.html")):
        page.goto(path.as_uri())
        assert page.eval_on_selector_all("figure.table .scroll", boxes) == [], path.name
    page.close()


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
