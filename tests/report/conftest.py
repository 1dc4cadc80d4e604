"""Tiny notebooks, one run of them for all tests of the wing, and a browser that checks pages."""

import io
import shutil
from contextlib import redirect_stdout
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mosaic.report.runner import run
from mosaic.utils.errors import RunError

PARAMETERS = (
    "seed: int = 0  # of everything random\nrate: float = 1.0e-3  # step size, unitless\nname: str = 'a'"
)
START = """\
import sys
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from mosaic.utils.progress import log
from mosaic.report import display
log("drawing: 1/1")
print("noise on standard error", file=sys.stderr)
display.answer("Too early to say.")
print("old\\r\\x1b[1mrate\\x1b[0m <is>", rate)
display.stamp(seed=seed, device="cpu, 2 threads", data="simulated, 0123abcd")"""
FORMULAS = r"""## Formulas of $\tau$
$L$ is the mean of

$$\mathcal{L} = \frac{1}{|A|} \sum_{i \in A} \sum_{a \neq i} q_{ia} \left(\log q_{ia} - \log p_{ia}\right),
\qquad q_{ia} = \frac{W_{ia}}{\sum_b W_{ib}},
\qquad p_{ia} = \frac{e^{s_{ia}/\tau}}{\sum_{b \neq i} e^{s_{ib}/\tau}}$$

| term | weight |
|------|-------:|
| intra | 1 |"""
FIGURE = """\
fig, ax = plt.subplots(figsize=(6, 3))
ax.plot(np.linspace(0, 1, 20) ** 2)
display.figure(fig, r"More labels help; $\\tau = 0.1$.", "One rising curve.", headline=True)"""
TABLE = """\
columns = {f"column {k}": [0.1 * k, 0.5, (0.3, 0.2, 0.4)] for k in range(14)}
frame = pd.DataFrame(columns, index=["a", "b", "c"])
display.table(frame, "Wide, with a best value.", best="max")
display.answer("Label-aware contrast **helps**, most where labels are few.")
display.key_result("macro AP gained over random at 5 %", 0.21, low=0.19, high=0.23, n_seeds=3)
frame.iloc[:2, :3]"""
FAILURE = "import mosaic\nprint(name, mosaic.__file__)\nraise ValueError('no band B13 in ' + name)"

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
#: Colour scheme and width of the window, in CSS pixels.
WINDOWS = {"light, desktop": ("light", 1280), "dark, phone": ("dark", 390)}


def make_notebook(title, *cells):
    """Make a notebook; cells that start with ``##`` are Markdown."""
    content = [new_markdown_cell(f"# {title}\n\nDoes it *work*?")]
    content.append(new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
    content += [new_markdown_cell(cell) if cell.startswith("##") else new_code_cell(cell) for cell in cells]
    kernel = {"name": "python3", "display_name": "Python 3"}
    return new_notebook(cells=content, metadata={"kernelspec": kernel})


@pytest.fixture(scope="session")
def write_notebooks(tmp_path_factory):
    """Return a function that writes notebooks, given as ``stem=(title, *cells)``, to a fresh folder."""

    def write(**notebooks):
        folder = tmp_path_factory.mktemp("notebooks")
        for name, content in notebooks.items():
            nbformat.write(make_notebook(*content), folder / f"{name}.ipynb")
        return [folder / f"{name}.ipynb" for name in notebooks]

    return write


@pytest.fixture(scope="session")
def small_run(write_notebooks, tmp_path_factory):
    """Run a notebook with everything in it, one that fails, and one that is therefore not run."""
    notebooks = write_notebooks(
        first=("Everything at once", START, FORMULAS, FIGURE, "## Table", TABLE, "## Table\nagain"),
        second=("It fails", FAILURE, "## After", "1 + 1"),
        third=("Never reached", "1"),
    )
    folder = tmp_path_factory.mktemp("reports") / "small"
    given = {"first": {"rate": 0.5}, "second": {"name": "/raw/BEN"}}
    with pytest.raises(RunError) as raised, redirect_stdout(io.StringIO()) as told:
        run(notebooks, given, folder, profile="tiny", command="make study")
    return SimpleNamespace(folder=folder, lines=told.getvalue().splitlines(), error=raised.value)


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium found: install the `chromium` package to check the pages in a browser")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def check_pages(browser):
    """Return a function that checks every page of a run, on a light desktop and on a dark phone."""

    def check(folder):
        pages = sorted(folder.glob("*.html"))
        assert folder / "index.html" in pages
        for window, (scheme, width) in WINDOWS.items():
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
            for path in pages:
                check_page(context, path, f"{path.name}, {window}")
            context.close()

    return check


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
