"""The page as people meet it: every tab in a real Chromium, by click, upload, keyboard; light, dark, on a phone."""

import os
import re
import shutil
import threading
from pathlib import Path

import pytest
from bad_uploads import BAD
from tiny_index import picture

from synclr_hf.explorer.config import ExplorerConfig, run_index_config
from synclr_hf.explorer.session import Explorer

pytest.importorskip("gradio", reason="gradio is not installed: the page is not tested")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no test in a browser")

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: the page is not tested in a browser"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TABS = ("Retrieval", "PCA maps", "Data", "Compare")


def served(explorer):
    from serving import served

    return served(explorer)


@pytest.fixture(scope="module")
def url(explorer, closing_pages):
    return served(explorer)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, request, tmp_path):
    """Open a page as somebody would; errors of the page and requests to elsewhere fail the test."""
    troubles, contexts = [], []

    def open_page(url, *, viewport=DESKTOP, theme="light", wait=True, **options):
        context = browser.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: troubles.append(f"page: {error}"))
        page.on("console", lambda told: troubles.append(f"console: {told.text}") if told.type == "error" else None)
        page.on("request", lambda asked: troubles.append(asked.url) if not is_ours(asked.url) else None)
        page.goto(f"{url}/?__theme={theme}")
        if wait:
            page.get_by_text("ready:").wait_for()
            page.locator("#examples img").first.wait_for(state="attached")
        return page

    yield open_page
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    for number, context in enumerate(contexts):
        for page in context.pages:
            name = re.sub(r"\W+", "-", request.node.name)
            page.screenshot(path=folder / f"{name}-{number}.png", full_page=True)
        context.close()
    assert troubles == []


def is_ours(address):
    return address.startswith(("http://127.0.0.1:", "data:", "blob:"))


def file_of(tmp_path, row, size=40):
    file = tmp_path / f"{row}.png"
    picture(row, size).save(file)
    return file


def pictures(page, grid, count):
    """Wait until a gallery shows so many pictures, all of them loaded."""
    sync_api.expect(page.locator(f"{grid} button img")).to_have_count(count)
    page.wait_for_function(
        "grid => [...document.querySelectorAll(grid + ' button img')].every("
        "image => (image.scrollIntoView(), image.complete && image.naturalWidth > 0))",
        arg=grid,
    )
    return page.locator(f"{grid} button img")


def test_first_paint_within_two_seconds(opened, url):
    page = opened(url, wait=False)
    page.get_by_role("button", name="Search", exact=True).wait_for()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted < 2000
    assert page.title() == "SynCLR explorer" and page.locator("html").get_attribute("lang")


def test_retrieval_by_upload_example_and_more_like_this(opened, url, tmp_path):
    page = opened(url)
    page.locator("#query input[type=file]").set_input_files(file_of(tmp_path, 7))
    page.locator("#query img").wait_for()
    page.get_by_role("button", name="Search", exact=True).click()
    found = pictures(page, "#found", 12)
    assert found.first.get_attribute("alt").startswith("1.00, green hat")
    assert page.get_by_role("button", name="More like this").first.is_disabled()
    found.nth(2).click()
    page.get_by_text("green hat A green hat on table").first.wait_for()
    page.get_by_role("button", name="More like this").first.click()
    page.get_by_alt_text("(same caption)").first.wait_for(state="attached")
    pictures(page, "#found", 12)
    page.locator("#examples button img").nth(1).click()
    page.wait_for_function("document.querySelectorAll('#query img').length > 0")
    pictures(page, "#found", 12)


def test_filter_and_two_pictures(opened, url, tmp_path):
    page = opened(url)
    page.locator("#query input[type=file]").set_input_files(file_of(tmp_path, 7))
    page.get_by_role("button", name="Filter and number").click()
    page.get_by_label("Only these concepts").click()
    page.get_by_role("option", name="blue bell").click()
    page.get_by_role("button", name="Search", exact=True).click()
    found = pictures(page, "#found", 12)
    assert {found.nth(k).get_attribute("alt").split(", ")[1] for k in range(12)} == {"blue bell"}
    page.get_by_role("button", name="With a second picture").click()
    page.get_by_role("button", name="Search with both").click()
    page.get_by_text("there is no picture yet").wait_for()
    page.locator("#second input[type=file]").set_input_files(file_of(tmp_path, 8))
    page.locator("#second img").wait_for()
    page.get_by_role("button", name="Search with both").click()
    pictures(page, "#found", 12)


def test_a_patch_of_the_query_by_click_and_by_numbers(opened, url):
    page = opened(url)
    page.locator("#examples button img").first.click()
    page.locator("#patches img").wait_for()
    box = page.locator("#patches img").bounding_box()
    page.locator("#patches img").click(position={"x": box["width"] * 0.55, "y": box["height"] * 0.55})
    pictures(page, "#parts", 12)
    page.get_by_text("36 of 36 pictures looked at").wait_for()
    assert page.get_by_label("Row, from 0").first.input_value() == "4"
    page.get_by_label("Row, from 0").first.fill("9")
    page.get_by_role("button", name="Search by this patch").click()
    page.get_by_text("there is no patch in row 9").wait_for()


def test_pca_maps_by_files_sliders_click_and_download(opened, url, tmp_path):
    page = opened(url)
    page.get_by_role("tab", name="PCA maps").click()
    files = [file_of(tmp_path, row, 48) for row in (0, 4, 8)]
    page.locator("#map-files input[type=file]").set_input_files(files)
    pictures(page, "#maps", 3)
    page.get_by_text("principal components of all patches of these 3 pictures").wait_for()
    before = page.locator("#maps img").first.get_attribute("src")
    page.get_by_label("Foreground only").check()
    page.get_by_text("of the foreground patches").wait_for()
    assert page.locator("#maps img").first.get_attribute("src") != before
    page.locator("#overlay input[type=number]").fill("0")
    page.locator("#overlay input[type=number]").press("Enter")
    page.locator("#maps button img").nth(1).click()
    sync_api.expect(page.get_by_label("Picture, from 1")).to_have_value("2")
    page.locator("#map-patches img").click(position={"x": 30, "y": 30})
    pictures(page, "#similar", 3)
    page.get_by_text("of picture 2; black: cosine").wait_for()
    page.get_by_role("button", name="Make a ZIP").click()
    with page.expect_download() as download:
        page.locator("a[download]").filter(has_text="zip").or_(page.locator("a[href*='pca_maps.zip']")).first.click()
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"
    page.get_by_role("button", name="Remove all").click()
    page.get_by_text("Add pictures to see them").wait_for()


def test_the_data_by_words_filter_and_pages(opened, url):
    page = opened(url)
    page.get_by_role("tab", name="Data").click()
    page.get_by_text("9 captions, page 1 of 2").wait_for()
    pictures(page, "#caption-0", 4)
    page.get_by_role("button", name="Next page").click()
    page.get_by_text("9 captions, page 2 of 2").wait_for()
    page.get_by_label("Words in the caption").fill('"blue bell" -nothing')
    page.get_by_label("Words in the caption").press("Enter")
    page.get_by_text("3 captions, page 1 of 1").wait_for()
    page.locator("#caption-1 button img").nth(2).click()
    page.get_by_text("(row 22, template").wait_for()
    page.locator("#browser-panel").get_by_role("button", name="Compare encoders").click()
    page.get_by_role("tab", name="Compare", selected=True).wait_for()
    pictures(page, "#compare-second", 12)
    page.get_by_role("tab", name="Data").click()
    page.locator("#browser-panel").get_by_role("button", name="PCA map").click()
    page.get_by_role("tab", name="PCA maps", selected=True).wait_for()
    pictures(page, "#maps", 1)
    page.get_by_role("tab", name="Data").click()
    page.get_by_role("button", name="Statistics").click()
    page.get_by_text("6 to 6, mean 6.0").wait_for()
    page.get_by_label("Words in the caption").fill("(.*")
    page.get_by_role("button", name="Search the captions").click()
    page.get_by_text("Nothing fits").wait_for()


def test_two_encoders_by_upload_and_by_chance(opened, url, tmp_path):
    page = opened(url)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="A random query").click()
    pictures(page, "#compare-first", 12)
    pictures(page, "#compare-second", 12)
    page.get_by_text("One query proves nothing").first.wait_for()
    page.locator("#compare-query").get_by_label("Remove Image").click()
    page.locator("#compare-query input[type=file]").set_input_files(file_of(tmp_path, 3))
    page.locator("#compare-query img").wait_for()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_function("document.querySelector('#compare-first button img').alt.includes('red mug')")


def test_bad_uploads_get_a_kind_line(opened, url, tmp_path):
    page = opened(url)
    page.get_by_role("tab", name="PCA maps").click()
    for name in ("animated.gif", "drawing.svg", "phone.heic", "text.jpg", "bomb.png", "cut.jpg"):
        content, words = BAD[name]
        (tmp_path / name).write_bytes(content)
        page.locator("#map-files input[type=file]").set_input_files(tmp_path / name)
        page.get_by_text(words).first.wait_for()
    assert page.locator("#maps button img").count() == 0


def test_too_many_bytes_are_refused_by_the_field(opened, url, tmp_path):
    (tmp_path / "large.png").write_bytes(b"\x89PNG" + b"\0" * (21 << 20))
    page = opened(url)
    page.locator("#query input[type=file]").set_input_files(tmp_path / "large.png")
    page.get_by_text(re.compile("exceed the maximum allowed size|maximum allowed")).first.wait_for()


def test_a_search_with_the_keyboard_alone(opened, url):
    page = opened(url)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('#examples button.thumbnail-item')"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline not in ("none", "")
    page.keyboard.press("Enter")
    pictures(page, "#found", 12)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone(opened, url, theme):
    page = opened(url, viewport=PHONE, theme=theme, is_mobile=True, has_touch=True)
    page.locator("#examples button img").first.tap()
    pictures(page, "#found", 12)
    boxes = [page.locator("#found button.thumbnail-item").nth(k).bounding_box() for k in (0, 1, 2)]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]  # two in a row
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(150)
        if name == "Data":
            ends = [page.locator("#caption-0 button img").nth(k).bounding_box() for k in range(4)]
            assert all(end["x"] + end["width"] <= PHONE["width"] for end in ends)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name


CONTRAST = """() => {
  const curve = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const channel = value => curve(value / 255);
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("h1, p, button, label span, td, .caption-label, code, a")) {
    if (!element.offsetParent || !element.innerText || element.disabled || element.closest("[disabled]")) continue;
    const [one, other] = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) bad.push(`${element.innerText.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return bad;
}"""


WITHOUT_WORDS = """() => [...document.querySelectorAll("img, button, input, textarea")].filter(e => {
  if (!e.offsetParent || e.type === "file" || e.alt) return false;
  return !(e.innerText || e.ariaLabel || e.title || e.labels?.length || e.placeholder || e.querySelector("img[alt]"));
}).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_can_be_read_and_every_picture_has_words(opened, url, theme):
    page = opened(url, theme=theme)
    page.locator("#examples button img").first.click()
    pictures(page, "#found", 12)
    page.locator("#patches img").wait_for()
    for name in TABS:
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(WITHOUT_WORDS) == [], name


def test_a_link_to_a_tab(opened, url):
    page = opened(url, wait=False)
    page.goto(f"{url}/?tab=comparison")
    page.get_by_role("tab", name="Compare", selected=True).wait_for()


def test_loading_is_visible_and_a_missing_index_can_be_built(opened, tmp_path, tiny_encoder_folder):
    (tmp_path / "images").mkdir()
    for row in range(12):
        picture(row).save(tmp_path / "images" / f"{row:02d}.png")
    build = run_index_config(tmp_path, {"model": [tiny_encoder_folder, "pixels"]})
    explorer = Explorer(ExplorerConfig(tiny_encoder_folder, may_build=build))
    may_load, plain = threading.Event(), explorer._load
    explorer._load = lambda: may_load.wait(30) and plain()  # type: ignore[method-assign]
    page = opened(served(explorer), wait=False)
    page.locator("#status .pulse").wait_for()
    page.get_by_text(re.compile(r"loading .*encoder")).first.wait_for()
    may_load.set()
    page.get_by_text("there is no index of pictures here; build one").wait_for()
    page.get_by_role("tab", name="PCA maps").click()
    page.locator("#map-files input[type=file]").set_input_files(tmp_path / "images" / "03.png")
    pictures(page, "#maps", 1)  # without an index
    page.get_by_role("button", name="Build the index now").click()
    page.get_by_text("12 pictures").first.wait_for()
    page.get_by_role("tab", name="Retrieval").click()
    pictures(page, "#examples", 8)
    assert page.get_by_text("there is no index of pictures here").count() == 0
