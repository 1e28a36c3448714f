"""The page, in a browser."""

import httpx
import pytest

from tests.serving import browser, servers

needs_browser = pytest.mark.skipif(
  browser.PATH is None, reason="there is no chromium"
)


@pytest.fixture(scope="module")
def url():
  names = ["embedding", "classification", "tagging", "question_answering"]
  served = [servers.FakeServed(x) for x in (*names, "masked_lm", "regression")]
  with servers.serving(*served) as (port, _, _):
    yield f"http://127.0.0.1:{port}"


def test_the_pages_load_nothing_from_elsewhere(url):
  for path in ("/", "/docs"):
    response = httpx.get(url + path)
    assert "http://" not in response.text
    assert "https://" not in response.text
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'")
    assert response.headers["x-frame-options"] == "DENY"


@needs_browser
def test_the_page_shows_answers(url, tmp_path):
  with browser.Browser(tmp_path / "profile") as page:
    page.open(url)
    page.wait("typeof models !== 'undefined' && models.length > 0")

    def predict(model, shown):
      """What the page shows of a model's answer, by a selector."""
      page.run(f"""
        $("model").value = "{model}";
        $("model").dispatchEvent(new Event("change"));
        $("predict").requestSubmit();
      """)
      script = f"[...document.querySelectorAll('#predict-out {shown}')]"
      page.wait(f"{script}.length")
      return page.run(f"{script}.map(x => x.textContent)")

    assert predict("classification", ".number") == ["75.0 %", "25.0 %"]
    assert predict("tagging", ".tag") == ["AnnB-PER"]
    assert predict("question_answering", "mark") == ["the mat"]
    assert predict("masked_lm", "h3") == ["Mask 1"]
    assert predict("regression", ".number") == ["0.5000"]
    page.run("$('embed').requestSubmit()")
    page.wait("document.querySelectorAll('#embed-out td').length == 10")
    page.run("$('tokenize').click()")
    page.wait("document.querySelectorAll('#embed-out .tag').length > 10")
    # Every route of the list has an example that this server answers.
    page.run("$('model').value = 'embedding'; chooseModel()")
    for number in range(page.run("routes().length")):
      page.run(f"""
        $("route").selectedIndex = {number}; chooseRoute();
        $("raw-out").replaceChildren(); $("raw").requestSubmit();
      """)
      shown = page.wait("$('raw-out').textContent")
      path = page.run("$('route').selectedOptions[0].textContent")
      refused = path.split("?")[0] in ("POST /predict", "POST /rerank")
      assert shown.startswith("422" if refused else "200"), (path, shown)
    page.open(url, width=360, dark=True)
    page.wait("typeof models !== 'undefined' && models.length > 0")
    assert page.run("document.documentElement.scrollWidth") <= 360
    page.open(f"{url}/docs")
    page.wait("document.querySelectorAll('details').length > 20")
    # The two refused routes, and nothing else.
    assert all("422" in error for error in page.errors), page.errors
