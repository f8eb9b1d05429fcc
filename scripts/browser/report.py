"""Opens a report in headless Chromium as a reader would, checks what happens, and takes pictures.

    just browser

The network is blocked, and every request is read from the browser's log: none may leave the file. Pictures and a printed page go to
the folder that is given, to be looked at.
"""

import argparse
import base64
import json
import subprocess
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

STUDIES = ["compare_tuned", "dylora_glue"]
WIDTHS = [1280, 390]
# A study of seconds: evaluated over steps, one row that diverges, and words that would be markup if a page trusted them.
SMALL = """\
# Tags <b>in</b> a title & "quotes" </script>.
suite: custom
data: .
model: mini_roberta
tasks: [{task: {name: mood, train: rows.csv, dev: dev.csv, text: text, label: mood}}]
seeds: [0, 1, 2]
targets: [query, value]
ranks: [2]
train: {steps: 24, batch: 4, max_length: 16, evaluate_every: 6, learning_rate: 1e-3}
variants:
  - lora
  - lora_fa
  - {preset: lora, label: wild, train: {learning_rate: 1000, weight_decay: 1000}}
baseline: lora
"""
ROWS = "text,mood\na good film,pos\nthe plot is old,neg\nso good,pos\nnever a film,neg\nan old film,neg\ngood plot,pos\n"


def browser(chromium, driver):
    """A browser without a network that logs its console and its requests."""
    options = Options()
    options.binary_location = chromium
    for argument in [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--window-size=1280,900",
    ]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Reader:
    """Somebody who reads a page and notes what is not as it should be."""

    def __init__(self, browser, out):
        self.browser, self.out, self.problems, self.checks = browser, out, [], 0

    def check(self, holds, what):
        self.checks += 1
        if not holds:
            self.problems.append(what)
            print(f"  WRONG: {what}")

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, f"article:not([hidden]) {selector}")

    def one(self, selector):
        found = [element for element in self.all(selector)]
        assert found, f"nothing on the page is `{selector}`"
        return found[0]

    def wait(self, holds, what):
        try:
            WebDriverWait(self.browser, 20).until(lambda _: holds())
            self.check(True, what)
        except Exception:
            self.check(False, what)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def open(self, page, route=""):
        self.browser.get("about:blank")
        self.browser.get(page.resolve().as_uri() + route)

    def size(self, width, is_dark):
        """The window of a desk or of a telephone, in a light or a dark room."""
        height = 900 if width > 500 else 844
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1 if width > 500 else 2, "mobile": width <= 500}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = "dark" if is_dark else "light"
        self.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def picture(self, name, whole=True):
        """All of the page as PNG, every chart drawn."""
        self.run("if (typeof studies !== 'undefined') studies.filter((s) => !s.element.hidden).forEach((s) => s.charts.forEach((c) => c.show()));")
        options = {"captureBeyondViewport": whole}
        if whole:
            size = self.browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12000), "scale": 1}
        shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", options)
        (self.out / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))

    def printed(self, name):
        paper = self.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
        (self.out / f"{name}.pdf").write_bytes(base64.b64decode(paper["data"]))

    def finish(self, page):
        """Reads the logs: no error in the console, no request but the file itself."""
        for entry in self.browser.get_log("browser"):
            self.check(entry["level"] not in ("SEVERE", "WARNING"), f"the console says: {entry['message'][:300]}")
        own = page.resolve().as_uri()
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                is_inside = url.startswith((own, "data:", "blob:", "about:"))
                self.check(is_inside, f"it asks for {url[:200]}")


def values(reader, column):
    """The numbers of a column of the main table, in the order of the rows that are shown."""
    return reader.run(
        """const rows = [...document.querySelectorAll('article.study:not([hidden]) .split:not([hidden]) tbody tr:not([hidden])')];
        return rows.map((row) => row.cells[arguments[0]].dataset.value === undefined ? null : Number(row.cells[arguments[0]].dataset.value));""",
        column,
    )


def heads(reader):
    return [head.text.strip() for head in reader.all(".split:not([hidden]) table.main thead th")]


def sorts(reader):
    column = heads(reader).index("average")
    button = reader.all(".split:not([hidden]) table.main thead button")[column]
    head = reader.all(".split:not([hidden]) table.main thead th")[column]
    button.click()
    found = values(reader, column)
    reader.check(found == sorted(found, reverse=True), "a click on `average` puts the largest first")
    reader.check(head.get_attribute("aria-sort") == "descending", "the heading says that it is sorted")
    button.send_keys(Keys.ENTER)
    found = values(reader, column)
    reader.check(found == sorted(found), "Enter on the heading turns the order")
    reader.check(head.get_attribute("aria-sort") == "ascending", "the heading says that the order was turned")


def filters(reader):
    every = len(values(reader, 1))
    reader.browser.find_element(By.TAG_NAME, "body").send_keys("/")
    box = reader.one('[data-filter="rows"]')
    reader.check(box == reader.browser.switch_to.active_element, "the key / goes to the filter")
    box.send_keys("dylora")
    shown = reader.run(
        "return [...document.querySelectorAll('article.study:not([hidden]) .split:not([hidden]) tbody tr:not([hidden])')].map((row) => row.dataset.variant)"
    )
    reader.check(shown and all("dylora" in name for name in shown), "the filter leaves the rows that have its words")
    reader.check(reader.one('[data-count="rows"]').text == f"{len(shown)} of {every} rows", "it says how many")
    box.clear()
    box.send_keys(" ", Keys.BACKSPACE)
    reader.check(len(values(reader, 1)) == every, "an empty filter leaves every row")
    boxes = reader.all(".choices input")
    boxes[0].click()
    reader.check(len(values(reader, 1)) < every, "a variant that is switched off has no row")
    boxes[0].click()
    reader.check(len(values(reader, 1)) == every, "it comes back")


def front_of(points, more_x, more_y):
    """The Pareto front by its definition."""
    sign_x, sign_y = (1 if more_x else -1), (1 if more_y else -1)

    def beats(one, other):
        better = (sign_x * one[0] - sign_x * other[0], sign_y * one[1] - sign_y * other[1])
        return min(better) >= 0 and max(better) > 0

    return sorted({name for name, *at in points if not any(beats(other, at) for _, *other in points)})


def trades(reader):
    figure = reader.one('figure[data-chart="trade-off"]')
    reader.run("arguments[0].scrollIntoView()", figure)
    reader.wait(lambda: figure.find_elements(By.CSS_SELECTOR, ".main-svg"), "the trade-off is drawn when it comes into view")
    horizontal, vertical = [Select(select) for select in figure.find_elements(By.TAG_NAME, "select")]
    title = lambda: figure.find_element(By.CSS_SELECTOR, ".xtitle").text
    before = title()
    horizontal.select_by_visible_text("ms/step")
    vertical.select_by_visible_text("params")
    reader.wait(lambda: title() == "ms/step" != before, "another column is another axis")
    split = reader.run("return studies.find((s) => !s.element.hidden).data.splits[0]")
    named = lambda row: f"{row['variant']} r={row['rank']}" if row["rank"] else row["variant"]
    for x, y in [("params", "average"), ("ms/step", "params"), ("cola matthews", "average")]:
        columns = {column["name"]: at for at, column in enumerate(split["columns"])}
        if x not in columns or y not in columns:
            continue
        horizontal.select_by_visible_text(x)
        vertical.select_by_visible_text(y)
        at = [columns[x], columns[y]]
        points = [(named(row), *(row["cells"][place]["value"] for place in at)) for row in split["rows"]]
        points = [point for point in points if None not in point]
        want = front_of(points, *(split["columns"][place]["more_is_better"] for place in at))
        said = figure.find_element(By.CSS_SELECTOR, ".notes").text.split("is better: ")[1].split(". It is drawn")[0]
        reader.check(sorted(said.split(", ")) == want, f"the front of {x} and {y} is {want}, and the page says {said}")
    horizontal.select_by_visible_text("params")
    vertical.select_by_visible_text("average")


def opens_a_run(reader, words, slug):
    box = reader.one('[data-filter="runs"]')
    box.send_keys(words)
    links = reader.all("table.runs tbody a")
    reader.check([link.text for link in links] == [slug], f"the filter of runs finds {slug}")
    links[0].send_keys(Keys.ENTER)
    reader.wait(lambda: reader.one("h1").text == slug, "Enter opens the run")
    text = reader.one(".panels").text
    reader.check(all(part in reader.browser.page_source for part in ["Configuration", "Costs", "Where it was made"]), "a run has its parts")
    reader.check("train.learning_rate" in reader.browser.find_element(By.ID, "run").text, f"it has its configuration: {text[:80]}")
    reader.check(bool(reader.all("tr.changed")), "what departs from the defaults is marked")
    reader.wait(lambda: reader.all(".plot .main-svg"), "its curves are drawn")


def goes_back(reader, slug):
    reader.browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    reader.wait(lambda: bool(reader.all("table.runs tbody a")), "Escape goes back to the study")
    reader.wait(lambda: reader.browser.switch_to.active_element.text == slug, "the focus is where the run was opened")
    reader.one('[data-filter="runs"]').clear()
    reader.one('[data-filter="runs"]').send_keys(" ", Keys.BACKSPACE)


def toggles(reader):
    colour = lambda: reader.run("return getComputedStyle(document.body).backgroundColor")
    before = colour()
    reader.browser.find_element(By.ID, "theme").click()
    reader.wait(lambda: colour() != before, "the theme changes")
    reader.check(reader.run("return document.documentElement.dataset.theme") == "dark", "it is dark")
    reader.browser.find_element(By.TAG_NAME, "body").send_keys("d")
    reader.wait(lambda: colour() == before, "the key d changes it back")


def reads(reader, page):
    """All that a reader of the committed studies does."""
    reader.open(page)
    reader.wait(lambda: reader.one("h1").text == STUDIES[0], "the first study is shown")
    sorts(reader)
    filters(reader)
    trades(reader)
    slug = "acceptability-vera-r256-s3"
    opens_a_run(reader, "acceptability vera seed 3", slug)
    reader.picture("run-1280-light")
    reader.browser.refresh()
    reader.wait(lambda: reader.one("h1").text == slug, "the address of a run opens it")
    reader.browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    reader.wait(lambda: reader.one("h1").text == "acceptability-vera-r256-s4", "the key → opens the run after")
    reader.browser.back()
    reader.wait(lambda: reader.one("h1").text == slug, "the browser's way back works")
    reader.browser.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    reader.wait(lambda: bool(reader.all("table.runs tbody a")), "Escape goes back to the study")
    opens_a_run(reader, "acceptability vera seed 3", slug)
    goes_back(reader, slug)
    toggles(reader)
    reader.browser.find_elements(By.CSS_SELECTOR, ".bar nav a")[1].click()
    reader.wait(lambda: reader.one("h1").text == STUDIES[1], "the second study is a click away")
    reader.check(bool(reader.all('figure[data-chart="ranks"]')), "it has its ranks")
    for width in WIDTHS:
        for is_dark in [False, True]:
            reader.size(width, is_dark)
            look = f"{width}-{'dark' if is_dark else 'light'}"
            for study in STUDIES:
                reader.open(page, f"#/study/{study}")
                reader.wait(lambda: reader.one("h1").text == study, f"{study} at {look}")
                wide = reader.run("return document.documentElement.scrollWidth")
                reader.check(wide <= width, f"{study} at {look} is {wide} pixels wide")
                reader.picture(f"{study}-{look}")
            reader.open(page, f"#/run/{STUDIES[0]}/{slug}")
            reader.wait(lambda: reader.one("h1").text == slug, f"a run at {look}")
            wide = reader.run("return document.documentElement.scrollWidth")
            reader.check(wide <= width, f"a run at {look} is {wide} pixels wide")
            reader.picture(f"run-{look}")
    reader.size(1280, True)
    reader.open(page)
    reader.wait(lambda: reader.one("h1").text == STUDIES[0], "the study to print")
    reader.printed("print")
    reader.finish(page)


def reads_small(reader, page):
    """A study with a curve of its metric, a row that fails, and markup in its words."""
    reader.size(1280, False)
    reader.open(page)
    reader.wait(lambda: reader.one("h1").text == "small", "the small study is shown")
    reader.check('Tags <b>in</b> a title & "quotes" </script>' in reader.one(".lead").text, "a title is text")
    reader.check(not reader.all("b, i"), "no word became an element")
    reader.picture("small-1280-light")
    reader.check(bool(reader.all('figure[data-chart="dev"] .main-svg')), "the metric over steps is drawn")
    labels = reader.run("return [...document.querySelectorAll('.legendtext')].map((text) => text.textContent)")
    reader.check({"lora", "lora_fa"} <= set(labels), f"the legend has the rows: {labels}")
    reader.one('[data-filter="runs"]').send_keys("failed")
    links = reader.all("table.runs tbody a")
    reader.check(len(links) == 3, "three runs failed")
    if links:
        links[0].send_keys(Keys.ENTER)
        reader.wait(lambda: "Stopped at step" in reader.one(".reason").text, "a failed run says where it stopped and why")
        reader.picture("failed-1280-light")
    reader.finish(page)


def small(binary, folder):
    """Trains the small study; its failing runs make the program's status 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in [("small.yaml", SMALL), ("rows.csv", ROWS), ("dev.csv", ROWS)]:
        (folder / name).write_text(text)
    trained = subprocess.run([binary, "run", "small.yaml"], cwd=folder, capture_output=True, text=True)
    assert trained.returncode in (0, 1), trained.stderr
    subprocess.run([binary, "report", "small.yaml"], cwd=folder, check=True)
    return folder / "results" / "small" / "report.html"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=Path("target/release/lora-lab"))
    parser.add_argument("--out", type=Path, default=Path("target/browser"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--driver", default="/usr/bin/chromedriver")
    parser.add_argument("--page", type=Path, help="a page of the committed studies that was made before")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    page = arguments.page or arguments.out / "report.html"
    if not arguments.page:
        subprocess.run([arguments.binary.resolve(), "report", *STUDIES, "--out", page], check=True)
    reader = Reader(browser(arguments.chromium, arguments.driver), arguments.out)
    try:
        reads(reader, page)
        if not arguments.page:
            reads_small(reader, small(arguments.binary.resolve(), arguments.out / "small"))
    finally:
        reader.browser.quit()
    print(f"{reader.checks - len(reader.problems)} of {reader.checks} checks hold; pictures in {arguments.out}")
    sys.exit(1 if reader.problems else 0)


if __name__ == "__main__":
    main()
