"""Dashboards of others: docs/existing-dashboards.md puts the chat there, and all works as before."""

import csv
import json
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import agui
import processes
import pytest
from combinations import COMBINATIONS, ROOT, Combination
from conftest import commit, copier, git
from in_browser import FIRST, LOADED, SECOND, Chat, visited
from playwright.sync_api import Browser, Page, Route, expect
from test_run import started, uv
from test_serving import stream

DOC = (ROOT / "docs" / "existing-dashboards.md").read_text(encoding="utf-8")
DASHBOARDS = {"single": "app", "package": "sales.app", "yaml": "app"}  # and what starts them
SECTIONS = {
    "single": "One `app.py`",
    "package": "A package with several pages",
    "yaml": "A YAML dashboard",
}
DEMO = Combination(
    next(one for one in COMBINATIONS if one["provider"] == "demo" and one["streaming"])
    | {"placement": "popup"}
)
SERVERS = "Maps, and what else comes from other servers"
MOST_LINES = 4  # of theirs that change
JSON = {"Content-Type": "application/json"}

CODES = {"Chad": "TCD", "France": "FRA", "Japan": "JPN", "Peru": "PER"}
PRODUCTS = ("Cocoa", "Coffee", "Tea")
YEARS = (2024, 2025, 2026)
NAMES = ("country", "code", "product", "year", "units", "revenue")
KINDS = [(land, product, year) for land in CODES for product in PRODUCTS for year in YEARS]


def orders(factor: int = 1) -> list[dict[str, Any]]:
    """Return the orders that the dashboards show: numbered, in units, at 10 apiece.

    Args:
        factor: By what to multiply the units.
    """
    return [
        dict(zip(NAMES, (land, CODES[land], product, year, units, 10 * units), strict=True))
        for units, (land, product, year) in zip(
            range(factor, factor * len(KINDS) + 1, factor), KINDS, strict=True
        )
    ]


def write_orders(folder: Path, factor: int = 1) -> None:
    """Write the file that the dashboards read.

    Args:
        folder: Where to write it.
        factor: By what to multiply the units.
    """
    with (folder / "orders.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, NAMES)
        writer.writeheader()
        writer.writerows(orders(factor))


def column(name: str, factor: int = 1, **values: object) -> list[Any]:
    """Return a column of the orders that have some values.

    Args:
        name: The column.
        factor: By what to multiply the units.
        values: The values, by their columns.
    """
    return [
        row[name]
        for row in orders(factor)
        if all(row[other] == value for other, value in values.items())
    ]


def blocks(title: str, kind: str) -> list[str]:
    """Return the blocks of code of a kind in a section of the document.

    Args:
        title: The section's title.
        kind: What follows the backquotes.
    """
    (text,) = (part for part in DOC.split("\n## ") if part.startswith(f"{title}\n"))
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def change(path: Path, diff: str) -> None:
    """Change a file as a block of the document shows: some lines go, some come, some stay.

    Args:
        path: The file.
        diff: The block.
    """
    lines, position = path.read_text(encoding="utf-8").splitlines(), 0
    for sign, line in ((one[:1], one[1:]) for one in diff.splitlines()):
        if sign == "+":
            lines.insert(position, line)
        else:
            position = lines.index(line, position)
            if sign == "-":
                del lines[position]
        position += sign != "-"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def app_of(name: str, folder: Path) -> Path:
    """Return the file of a dashboard that builds its app.

    Args:
        name: The dashboard.
        folder: Where it is.
    """
    return folder / f"{DASHBOARDS[name].replace('.', '/')}.py"


def read(page: Page, chart: str, field: str) -> list[Any]:
    """Return a field of all traces of a chart, as it is drawn; nothing until it is.

    Args:
        page: The tab.
        chart: The chart's id.
        field: The name of the field.
    """
    script = """([id, field]) => {
      const chart = document.querySelector(`#${id} .js-plotly-plot`);
      const values = (chart?._fullData ?? []).map((trace) => trace[field]);
      return values.flatMap((value) => (value?.[Symbol.iterator] ? [...value] : [value]));
    }"""
    values: list[Any] = page.evaluate(script, [chart, field])
    return values


def expect_drawn(page: Page, chart: str, field: str, expected: list[Any]) -> None:
    """Wait until a chart shows values, in any order.

    Args:
        page: The tab.
        chart: The chart's id.
        field: What holds the values.
        expected: The values.
    """
    try:
        processes.until(lambda: sorted(read(page, chart, field)) == sorted(expected), 30)
    except AssertionError:
        assert sorted(read(page, chart, field)) == sorted(expected)


def choose(page: Page, name: str) -> None:
    """Choose one of the radio buttons of a control.

    Args:
        page: The tab.
        name: The button's label.
    """
    page.get_by_role("radio", name=name, exact=True).check()


def filters_and_parameters(page: Page) -> None:
    bars = "countries"
    expect_drawn(page, bars, "y", column("units", product="Cocoa", year=2024))
    choose(page, "Tea")
    expect_drawn(page, bars, "y", column("units", product="Tea", year=2024))
    choose(page, "revenue")
    expect_drawn(page, bars, "y", column("revenue", product="Tea", year=2024))
    page.get_by_role("slider").first.press("End")
    expect_drawn(page, bars, "y", column("revenue", product="Tea", year=2026))


def click_bar(page: Page, x: str) -> None:
    """Click on a bar of the chart with bars, once it is as wide as its place and has seen the mouse.

    Args:
        page: The tab.
        x: The bar's label.
    """
    fits = """() => {
      const chart = document.querySelector("#countries .js-plotly-plot");
      return chart._fullLayout.width === chart.parentElement.clientWidth;
    }"""
    processes.until(lambda: page.evaluate(fits))
    bar = page.locator("#countries .bars .point").nth(list(CODES).index(x))
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=2)
    hovered = """(x) => {
      const chart = document.querySelector("#countries .js-plotly-plot");
      return chart._hoverdata?.[0].x === x;
    }"""
    processes.until(lambda: page.evaluate(hovered, x))
    page.mouse.down()
    page.mouse.up()


def expect_rows(page: Page, units: list[int]) -> None:
    """Wait until the table has as many rows, and its head.

    Args:
        page: The tab.
        units: What the rows hold.
    """
    grid = page.locator("#table .ag-root")
    expect(grid).to_have_attribute("aria-rowcount", str(1 + len(units)), timeout=LOADED)


def cross_filter_and_export(page: Page) -> None:
    expect_rows(page, column("units"))
    click_bar(page, "France")
    expect_rows(page, column("units", country="France"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    rows = csv.DictReader(download.value.path().read_text(encoding="utf-8").splitlines())
    assert [int(row["units"]) for row in rows] == column("units", country="France")


def drill_through(page: Page) -> None:
    page.locator("#table .ag-cell[col-id=product]", has_text="Tea").first.click()
    expect_drawn(page, "detail", "y", column("units", product="Tea"))
    expect(page.get_by_role("radio", name="Tea", exact=True)).to_be_checked()


def theme(page: Page) -> None:
    colour = "document.querySelector('#detail .js-plotly-plot')._fullLayout.font.color"
    html = page.locator("html")
    before = html.get_attribute("data-bs-theme"), page.evaluate(colour)
    page.locator("#theme-toggle").click()
    other = {"dark": "light", "light": "dark"}[str(before[0])]
    expect(html).to_have_attribute("data-bs-theme", other)
    processes.until(lambda: page.evaluate(colour) != before[1])


def dynamic_data(page: Page, folder: Path) -> None:
    """What is in the cache is shown, whatever the file holds by now; a parameter loads anew."""
    write_orders(folder, factor=2)
    choose(page, "Coffee")
    expect_drawn(page, "detail", "y", column("units", product="Coffee"))
    choose(page, "18")
    expect_drawn(page, "detail", "y", column("units", factor=2, product="Coffee")[:6])


def uploads_and_style(page: Page) -> None:
    page.get_by_role("link", name="Files", exact=True).click()
    expect(page.locator(".upload")).to_have_css("border-top-color", "rgb(1, 2, 3)", timeout=LOADED)
    file: Any = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"1\n2\n3\n"}
    page.locator("#upload-field input[type=file]").set_input_files(file)
    contents = "dash_component_api.getLayout('upload-field').props.contents"
    processes.until(lambda: page.evaluate(contents))
    page.get_by_role("button", name="Count", exact=True).click()
    expect(page.locator("#said")).to_have_text("3 lines", timeout=LOADED)


def world_map() -> dict[str, Any]:
    """Return the outlines of the countries, which Plotly loads from another server: a square each."""
    corners = [(0, 0), (0, 9), (9, 9), (9, 0), (0, 0)]
    countries = list(enumerate(CODES.values()))
    arcs = [[[x + 20 * number, y] for x, y in corners] for number, _ in countries]
    polygons = [
        {"type": "Polygon", "id": code, "properties": {"ct": [0, 0]}, "arcs": [[number]]}
        for number, code in countries
    ]
    layers = ("coastlines", "land", "ocean", "lakes", "rivers", "subunits")
    objects = dict.fromkeys(layers, {"type": "GeometryCollection", "geometries": []})
    objects["countries"] = {"type": "GeometryCollection", "geometries": polygons}
    return {"type": "Topology", "arcs": arcs, "objects": objects}


def maps(page: Page) -> None:
    def answer(route: Route) -> None:
        route.fulfill(json=world_map(), headers={"Access-Control-Allow-Origin": "*"})

    page.context.route("https://cdn.plot.ly/un/**", answer)
    page.get_by_role("link", name="World", exact=True).click()
    countries = page.locator("#world .choroplethlayer path[d^=M]")
    expect(countries).to_have_count(len(KINDS), timeout=LOADED)


@contextmanager
def opened(browser: Browser, name: str, folder: Path) -> Iterator[Chat]:
    """Start a dashboard as its owner does, and open it.

    Args:
        browser: The browser.
        name: The dashboard.
        folder: Where it is.
    """
    port = processes.free_port()
    environment = processes.UNLIMITED | {"HOST": "127.0.0.1", "PORT": str(port)}
    module = DASHBOARDS[name]
    process = processes.run(processes.run_module, folder, module, environment=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        processes.wait_for(address)
        with visited(browser, address, DEMO, others="https://cdn.plot.ly/") as chat:
            yield chat
    finally:
        process.terminate()
        process.join()


@pytest.mark.parametrize("with_chat", [False, True], ids=["alone", "with the chat"])
@pytest.mark.parametrize("name", DASHBOARDS)
def test_works_as_before(
    renders: dict[str, Path], browser: Browser, tmp_path: Path, name: str, with_chat: bool
) -> None:
    folder = tmp_path / name
    shutil.copytree(ROOT / "tests" / "dashboards" / name, folder)
    write_orders(folder)
    if with_chat:
        shutil.copytree(renders[DEMO.name], folder / "chat")
        (lines,) = blocks(SECTIONS[name], "diff")
        assert len(re.findall(r"^\+", lines, re.MULTILINE)) < MOST_LINES, "Data needs one more."
        change(app_of(name, folder), lines.replace("my_chat", DEMO.name))
        protection = folder / "chat" / "src" / DEMO.name / "web" / "protection.py"
        change(protection, *blocks(SERVERS, "diff"))
    with opened(browser, name, folder) as chat:
        page = chat.page
        answers = [chat.ending(FIRST), chat.ending(SECOND)] if with_chat else []
        if with_chat:
            chat.ask(FIRST, answers[0])
        filters_and_parameters(page)
        cross_filter_and_export(page)
        drill_through(page)
        theme(page)
        if name == "package":
            dynamic_data(page, folder)
            uploads_and_style(page)
        if name == "single":
            maps(page)
        if with_chat:
            (current,) = page.locator("#page-title").all_text_contents()
            expect(chat.root.locator("#chat-context")).to_contain_text(f"Asked from {current}")
            chat.ask(SECOND, *answers)
        expect(chat.questions).to_have_count(len(answers))


def run(block: str, directory: Path, template: Path, *options: str) -> None:
    """Run the commands of a block of the document, with copier as it is installed here.

    Args:
        block: The block.
        directory: Where to run them.
        template: The template.
        options: What follows each of copier's commands.
    """
    for line in block.splitlines():
        program, *arguments = shlex.split(line.replace("TEMPLATE", str(template)))
        if program == "cd":
            directory /= arguments[0]
        elif program == "uv":
            uv(*arguments, directory=directory)
        else:
            assert (program, arguments.pop(0)) == ("uvx", "copier")
            ended = copier(*arguments, *options, directory=directory)
            assert ended.returncode == 0, ended.stderr


def test_an_existing_repository(repository: Path, tmp_path: Path) -> None:
    """The package with the chat's data, in its own repository: installed, updated, and served."""
    template, sales = tmp_path / "template", tmp_path / "sales"
    shutil.copytree(repository, template)
    shutil.copytree(ROOT / "tests" / "dashboards" / "package", sales)
    write_orders(sales)
    (sales / ".gitignore").write_text(".env\n.venv/\ninstance/\n__pycache__/\n")
    git("init", "--quiet", directory=sales)
    commit(sales)
    begin = git("rev-parse", "HEAD", directory=sales).strip()

    install, update = blocks("An existing repository", "sh")
    head = ("--vcs-ref", "HEAD")
    answers = ("--defaults", "--data", "provider=demo", "--data", "data=true", *head)
    run(install, sales, template, *answers)
    to_app, to_data = blocks("Let it look into your data", "diff")
    app, package = app_of("package", sales), sales / "chat" / "src" / "my_chat"
    protection = package / "web" / "protection.py"
    change(app, *blocks(SECTIONS["package"], "diff"))
    change(app, to_app)
    change(package / "dashboard.py", to_data)
    change(protection, *blocks(SERVERS, "diff"))
    commit(sales)
    theirs = git("diff", "--numstat", begin, "HEAD", "--", "sales", directory=sales)
    assert theirs.split() == [str(MOST_LINES), "0", "sales/app.py"]

    newer = "A newer version of the template."
    for file in ("dashboard.py.jinja", "web/protection.py.jinja"):
        (path,) = template.glob(f"template/src/*/{file}")
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"""\n\n', f' {newer}"""\n\n', 1), encoding="utf-8")
    commit(template)
    run(update, sales, template, *head)
    paths = ("dashboard.py", "web/protection.py")
    expected = ["chat/.copier-answers.yml", *(f"chat/src/my_chat/{path}" for path in paths)]
    assert git("diff", "--name-only", "HEAD", directory=sales).split() == expected
    assert not git("ls-files", "--unmerged", "--others", "--exclude-standard", directory=sales)
    for path, theirs in zip(paths, ('"orders": load_orders', "https://cdn.plot.ly"), strict=True):
        text = (package / path).read_text(encoding="utf-8")
        assert newer in text and theirs in text

    (command,) = re.findall("`(gunicorn .*?)`", DOC)
    (sales / ".env").write_text("CHAT_DAILY_LIMIT=2\n")
    with started(sales, command) as address:
        port = int(address.rpartition(":")[2])
        assert agui.read(stream(port, FIRST).read().decode()).text.endswith("answers here.")
        body = json.dumps({"sql": 'SELECT sum("units") FROM "orders"'}).encode()
        request = urllib.request.Request(f"{address}/chat/csv", body, JSON)
        with urllib.request.urlopen(request) as response:
            assert response.read().decode().splitlines()[-1] == str(sum(column("units")))
        assert stream(port, FIRST).status == 429, "The settings in .env were not read."
    assert (sales / "instance" / "counts.sqlite").exists()
    assert git("status", "--porcelain", "--", "sales", "instance", ".env", directory=sales) == ""
