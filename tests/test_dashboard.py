"""The dashboard around the chat: the example page with charts works in a browser."""

from pathlib import Path

from in_browser import LOADED, named, opened
from playwright.sync_api import Browser, expect


def test_filter_changes_charts_and_table(renders: dict[str, Path], browser: Browser) -> None:
    combination = named("demo_streaming_full")
    with opened(browser, renders[combination.name], combination, {}) as chat:
        page = chat.page
        page.get_by_role("link", name="Charts").click()
        charts = page.locator(".js-plotly-plot")
        cells = page.locator('.ag-row [col-id="continent"]')
        expect(charts).to_have_count(2, timeout=LOADED)
        for chart in charts.all():
            expect(chart.locator(".legend .traces")).to_have_count(5, timeout=LOADED)
        expect(cells.first).to_have_text("Asia", timeout=LOADED)
        # WebGL needs scripts that a strict Content-Security-Policy forbids.
        expect(charts.locator("canvas")).to_have_count(0)
        # Plotly's own toolbar would send a chart to another site.
        titles = charts.first.locator(".modebar-btn").evaluate_all(
            "all => all.map(one => one.dataset.title)"
        )
        assert "Zoom" in titles and not [one for one in titles if "Share" in one]

        page.get_by_role("button", name="5 selected").click()
        page.get_by_role("button", name="Deselect All").click()
        page.get_by_role("option", name="Europe").click()
        page.keyboard.press("Escape")
        for chart in charts.all():
            expect(chart.locator(".legend .traces")).to_have_text(["Europe"], timeout=LOADED)
        expect(cells.first).to_have_text("Europe", timeout=LOADED)
        assert set(cells.all_text_contents()) == {"Europe"}

        page.get_by_role("link", name="Chat").click()
        expect(chat.box).to_be_visible()
