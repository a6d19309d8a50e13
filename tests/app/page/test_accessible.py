"""Keyboard, screen reader, contrast, phone width; and a policy that lets nothing come from elsewhere."""

from pathlib import Path

import pytest

import emodet.app.page
from emodet.modelfile import read_model_file

AXE = Path(emodet.app.page.__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


def test_keyboard(watched):
    page = watched.open(ready=False)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.focus("#tab-camera")
    for key, shown in [
        ("ArrowRight", "picture"),
        ("End", "model"),
        ("ArrowRight", "camera"),
        ("ArrowLeft", "model"),
        ("Home", "camera"),
    ]:
        page.keyboard.press(key)
        assert page.locator(f"#{shown}").is_visible()
        assert page.evaluate("document.activeElement.id") == f"tab-{shown}"
        assert page.locator("[role=tabpanel]:visible").count() == 1


def test_no_tab_is_wider_than_a_phone(watched):
    watched.page.set_viewport_size({"width": 360, "height": 740})
    page = watched.open()
    for tab in ("picture", "video", "model", "camera"):
        page.click(f"#tab-{tab}")
        page.wait_for_selector(f"#{tab}:visible")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, tab
    page.click("#camera-start")
    page.wait_for_selector("#camera-faces .face")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(watched, scheme):
    """axe-core's rules for WCAG 2.2 AA: names, roles, contrast in both schemes."""
    if not AXE.is_file():
        pytest.skip("axe-core is not there: `make page` gets it with the page's other packages")
    watched.page.emulate_media(color_scheme=scheme)
    page = watched.open()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = []
    for tab in ("camera", "picture", "video", "model"):
        page.click(f"#tab-{tab}")
        if tab == "camera":
            page.click("#camera-start")
            page.wait_for_selector("#camera-faces .face")
        result = page.evaluate("options => axe.run(document, options)", options)
        found += [(tab, each["id"], each["nodes"][0]["html"][:120]) for each in result["violations"]]
    assert found == []


def test_nothing_can_be_fetched_from_elsewhere(watched):
    page = watched.open(ready=False)
    code = "fetch('https://example.org/').then(() => 'fetched', (problem) => String(problem))"
    assert "TypeError" in page.evaluate(code)
    assert any("Content Security Policy" in error for error in watched.errors)


def test_the_model_tab_shows_card_figures_classes_and_terms(watched):
    page = watched.open("model", ready=False)
    page.wait_for_selector("#model-content h3, #model-content h2 >> nth=2")
    said = page.inner_text("#model-content")
    (figures,) = read_model_file("int8", threads=1).info.metrics.values()
    for words in (f"accuracy {figures['accuracy']:.3f}", "FER+", "research use only", "contempt", "Limits.", "AI Act"):
        assert words in said
    assert page.locator("#model-content .swatch").count() == 8
