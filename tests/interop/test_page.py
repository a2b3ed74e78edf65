"""The status page in a real browser: headless Chromium shows what an operator would see, and does what they would."""
import os
import re
import signal
import subprocess
import threading

import pytest
from browser import Browser
from harness import ROOT, endpoint, free_port, free_tcp_port
from test_admin import TOKEN, Crowd, admin_relay, get_json, token_file

SHOTS = os.environ.get("TUNN_SHOTS") or f"{ROOT}/build/page"  # where pictures go; docs/ with make screenshots
SHOT_MAX = 120_000
IS_OURS = "data:image/svg+xml"  # the icon, which is in the page


@pytest.fixture(scope="module")
def chromium():
    b = Browser()
    yield b
    b.close()


@pytest.fixture
def page(chromium):
    """A browser whose page, whatever it is made to do, may neither say an error nor ask anybody but the relay."""
    chromium.be(1280, 900)
    chromium.log()
    chromium.said, chromium.asked, chromium.expects = [], [], None
    yield chromium
    said = [line for line in chromium.log() if not chromium.expects or not any(word in line for word in chromium.expects)]
    strangers = [url for url in chromium.asked if not url.startswith((chromium.base, IS_OURS, "about:"))]
    chromium.d.get("about:blank")
    assert not said and not strangers


@pytest.fixture
def seen(world):
    return admin_relay(world)


class Traffic:
    """Datagrams to an address, a few a second, until it is over."""

    def __init__(self, world, address, size, each_s=0.02):
        self.socket, self.address, self.size, self.each_s = world.socket(), address, size, each_s
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        world.cleanups.append(self.stop)

    def run(self):
        while not self.over.wait(self.each_s):
            self.socket.sendto(b"x" * self.size, self.address)

    def stop(self):
        self.over.set()
        self.thread.join()


def one(rows, name):
    return next((r for r in rows if r[0].startswith(f"{name}|")), None)


# -- what it shows

def test_a_tunnel_appears_its_traffic_moves_and_its_drops_have_reasons(world, seen, page):
    page.open(seen)
    page.is_ready()
    page.wait(lambda: "No tunnel is connected" in (page.text(".none") or ""), "an empty table")
    page.wait(lambda: page.text("#chart-drops .note") == "Nothing was dropped." and page.legend("tunnels") == {"connected": "0"}, "the charts")
    pair = world.pair(seen)
    page.wait(lambda: one(page.rows(), "laptop"), "the tunnel")
    home = page.wait(lambda: one(page.rows(), "home"), "its peer")
    assert home[0] == "home|main" and home[1] == "laptop|up" and "|" in home[2] and "forward" in home[2]
    page.wait(lambda: page.legend("tunnels") == {"connected": "2"}, "the chart of tunnels")

    traffic = Traffic(world, pair.address, 1000)
    page.wait(lambda: "kbit/s" in page.legend("traffic")["in"] and "kbit/s" in page.legend("traffic")["out"], "traffic")
    page.wait(lambda: "kbit/s" in one(page.rows(), "laptop")[3], "the rate in the table")
    assert "kbit/s" in page.text("#now-in") and "pkt/s" in page.legend("packets")["in"]
    drawn = page.js("return document.querySelector('#chart-traffic .line').getAttribute('d')")
    page.wait(lambda: page.js("return document.querySelector('#chart-traffic .line').getAttribute('d')") != drawn, "the line")
    traffic.stop()
    page.wait(lambda: one(page.rows(), "laptop")[3].startswith("0 bit/s"), "silence")
    row = get_json(seen, "/api/v1/tunnels?q=laptop")["tunnels"][0]
    page.js("[...document.querySelectorAll('.open')].find((e) => e.innerText.startsWith('laptop')).click()")
    details = page.text("tr.more:not([hidden])").replace(" ", "")
    assert f"{row['in']['packets']}packets" in details and "main/home(up)" in details

    lonely = world.end(seen, free_port(), "lonely", "nobody", "--listen")
    Traffic(world, endpoint(lonely), 100)
    page.wait(lambda: one(page.rows(), "lonely"), "the lonely end")
    page.wait(lambda: page.legend("drops").get("no route", "0/s") != "0/s", "the reason of its drops")
    page.wait(lambda: int(one(page.rows(), "lonely")[7]) > 0, "its drops in the table")
    page.js("[...document.querySelectorAll('.open')].find((e) => e.innerText.startsWith('lonely')).click()")
    page.wait(lambda: any("no route " in t for t in page.texts("tr.more")), "the reason in its details")
    pair.home.stop()
    page.wait(lambda: one(page.rows(), "home") is None, "that it is gone")


def test_delays_are_drawn_and_what_was_not_measured_is_said(world, seen, page):
    page.open(seen)
    page.wait(lambda: page.text("#chart-queue .note") == page.text("#chart-rtt .note") == "Nothing was measured.", "the words")
    assert page.text("#now-queue") == "–"
    Traffic(world, world.pair(seen).address, 500)
    page.wait(lambda: re.fullmatch(r"[\d.]+ (µs|ms)", page.legend("queue")["99 %"]), "the delay of packets")
    page.wait(lambda: page.text("#chart-queue .note") == "" and re.fullmatch(r"[\d.]+ (µs|ms)", page.text("#now-queue")), "the same as a figure")
    page.wait(lambda: len(page.js("return [...document.querySelectorAll('#chart-queue .line')].map((e) => e.getAttribute('d'))")) == 2, "both lines")


def test_accounts_with_what_they_used_and_their_tunnels(world, seen, page):
    world.new_account(seen, "acme")
    Traffic(world, world.pair(seen).address, 500)
    page.open(seen, "#accounts")
    page.wait(lambda: [r[0] for r in page.rows()] == ["acme", "main"], "the accounts")
    page.wait(lambda: one([[r[0] + "|", *r] for r in page.rows()], "main")[3].startswith("2"), "its tunnels")
    page.wait(lambda: page.rows()[1][5].split(" ")[1] in ("kB|no", "kB|of", "MB|no"), "what main used")
    page.js("[...document.querySelectorAll('.open')].find((e) => e.innerText.startsWith('main')).click()")
    page.js("[...document.querySelectorAll('tr.more button')].find((e) => e.checkVisibility()).click()")
    page.wait(lambda: {r[0] for r in page.rows()} == {"home|main", "laptop|main"}, "the account's tunnels")
    assert page.js("return location.hash") == "#tunnels" and page.js("return document.querySelector('#q').value") == "main"


def test_an_open_relay_says_that_it_has_no_accounts(world, page):
    relay = admin_relay(world, "--open")
    page.expects = ["404"]
    page.open(relay, "#accounts")
    page.wait(lambda: "has no accounts" in (page.text(".none") or ""), "the words of the relay")
    assert page.text("#state") in ("ready", "starting")


# -- tables

def test_search_asks_the_relay(world, page):
    relay = admin_relay(world, "--open")
    crowd = Crowd(world, relay).join(f"end-{i:03}" for i in range(150))
    page.open(relay)
    page.wait(lambda: len(page.rows()) == 100, "the first page")
    page.type("#q", "end-14")
    page.wait(lambda: [r[0].split("|")[0] for r in page.rows()] == [f"end-14{i}" for i in range(10)], "what was found")
    assert page.text("#count") == "10 tunnels with “end-14”."
    page.type("#q", "nobody")
    page.wait(lambda: page.text(".none") == "Nothing has “nobody” in its id, account or address.", "that there is nothing")
    page.type("#q", "ü")
    page.expects = ["400"]
    page.wait(lambda: "only printable ASCII" in (page.text(".none") or ""), "the words of the relay")
    for p in crowd:
        p.close()


def test_pages_go_forth_and_back(world, page):
    relay = admin_relay(world, "--open")
    crowd = Crowd(world, relay).join(f"end-{i:03}" for i in range(60))
    page.open(relay)
    page.wait(lambda: len(page.rows()) == 60, "all of them")
    assert page.js("return document.querySelector('#next').disabled && document.querySelector('#before').disabled")
    page.js("const s = document.querySelector('#rows'); s.value = '25'; s.dispatchEvent(new Event('change'))")
    pages = []
    for n, rows in ((1, 25), (2, 25), (3, 10)):
        page.wait(lambda n=n, rows=rows: len(page.rows()) == rows and f"page {n}" in page.text("#count"), f"page {n}")
        pages.append({r[0] for r in page.rows()})
        if n < 3:
            page.click("#next")
    assert len(pages[0] | pages[1] | pages[2]) == 60
    page.wait(lambda: page.js("return document.querySelector('#next').disabled"), "the last page")
    page.click("#before")
    page.wait(lambda: {r[0] for r in page.rows()} == pages[1], "the page before")
    for p in crowd:
        p.close()


def test_columns_sort_and_say_so(world, page):
    relay = admin_relay(world, "--open")
    crowd = Crowd(world, relay).join(["b", "c", "a"])
    page.open(relay)
    page.wait(lambda: [r[0][0] for r in page.rows()] == ["a", "b", "c"], "the names in order")
    page.click("th button")
    page.wait(lambda: [r[0][0] for r in page.rows()] == ["c", "b", "a"], "the names the other way")
    assert page.js("return [...document.querySelectorAll('th')].map((e) => e.getAttribute('aria-sort'))")[0] == "descending"
    heads = page.js("return document.querySelectorAll('th button').length")
    for i in range(heads):
        page.js("document.querySelectorAll('th button')[arguments[0]].click()", i)
    sorts = page.js("return [...document.querySelectorAll('th')].map((e) => e.getAttribute('aria-sort'))")
    assert sorts[-1] == "descending" and set(sorts[:-1]) == {"none"}
    for p in crowd:
        p.close()


# -- for everybody

def test_the_keyboard_reaches_every_control_and_they_work(world, seen, page):
    world.pair(seen)
    page.open(seen)
    page.wait(lambda: len(page.rows()) == 2, "the tunnels")
    wanted = page.js("""return [...document.querySelectorAll('a[href], button:not(:disabled), select, input, [tabindex="0"]')]
        .filter((e) => e.checkVisibility() && !e.closest('dialog')).map((e, i) => { e.dataset.nth = i; return i; })""")
    reached, outlined = [], []
    for _ in range(len(wanted) + 1):
        page.press("TAB")
        at, outline = page.js("const e = document.activeElement; return [e.dataset.nth, getComputedStyle(e).outlineStyle]")
        if at is not None:
            reached.append(int(at))
            outlined.append(outline)
    assert sorted(set(reached)) == wanted and reached[:len(wanted)] == sorted(reached[:len(wanted)])
    assert set(outlined) <= {"solid", "auto"}

    page.wait(lambda: get_json(seen, "/api/v1/series")["length"] > 5 and page.is_ready() is None, "some history")
    page.wait(lambda: page.js("return document.querySelectorAll('#chart-traffic .line').length") == 2, "the lines")
    page.js("document.querySelector('#chart-traffic .plot').focus()")
    page.press("ARROW_LEFT", "ARROW_LEFT")
    now = page.js("return document.activeElement.getAttribute('aria-valuetext')")
    assert ", in " in now and ", out " in now and "bit/s" in now
    assert page.js("return document.querySelectorAll('.marks .cursor').length") == 6, "all charts look at the same second"
    looked = page.text("#chart-traffic .time")
    page.press("ARROW_LEFT")
    assert page.text("#chart-traffic .time") < looked
    page.press("ESCAPE")
    assert page.text("#chart-traffic .time") == ""

    page.js("document.querySelector('.open').focus()")
    page.press("ENTER")
    assert page.js("return document.activeElement.getAttribute('aria-expanded')") == "true" and page.text("tr.more")
    page.js("document.querySelector('th button').focus()")
    page.press("SPACE")  # the rows move
    page.js("document.querySelector('.open').focus()")
    page.wait(lambda: page.js("return document.activeElement.className") == "open", "the focus")
    page.js("document.querySelector('#to-accounts').focus()")
    page.press("ENTER")
    page.wait(lambda: [r[0] for r in page.rows()] == ["main"], "the accounts")
    page.js("document.querySelector('#pause').focus()")
    page.press("ENTER")
    assert page.text("#state") == "paused" and "Paused at" in page.text("#news")
    asked = page.js("return performance.getEntriesByType('resource').length")
    page.press("ENTER")
    page.wait(lambda: page.text("#state") == "ready" and page.js("return performance.getEntriesByType('resource').length") > asked, "that it goes on")


def test_everything_has_a_name(world, seen, page):
    world.pair(seen)
    page.open(seen)
    page.wait(lambda: len(page.rows()) == 2, "the tunnels")
    tree = page.d.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "link", "combobox", "searchbox", "slider", "table", "navigation", "region", "columnheader", "MenuListPopup"}
    nameless = [n for n in tree if n.get("role", {}).get("value") in roles - {"MenuListPopup"} and not n.get("ignored") and not n["name"]["value"]]
    found = {n.get("role", {}).get("value") for n in tree if not n.get("ignored")}
    assert not nameless and {"button", "searchbox", "slider", "table", "columnheader", "navigation", "status"} <= found


# Of each text that is seen: its colour against what is behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """
const luminance = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(', 0)') && c !== 'transparent') return c; } return 'rgb(255, 255, 255)'; };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.checkVisibility() || e.closest(':disabled, .skip, .unseen, noscript')) continue;
  const style = getComputedStyle(e);
  const [a, b] = [luminance(e instanceof SVGElement ? style.fill : style.color), luminance(behind(e))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), e.tagName, e.textContent.slice(0, 30)]);
}
return found;
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read_in_both_schemes(world, seen, page, dark):
    world.pair(seen)
    page.be(1280, 900, dark=dark)
    page.open(seen)
    page.wait(lambda: len(page.rows()) == 2, "the tunnels")
    page.is_ready()
    page.click(".open")
    found = page.js(CONTRASTS)
    assert len(found) > 60 and min(found)[0] >= 4.5, min(found)
    lines = page.js("return ['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6'].map((c) => getComputedStyle(document.documentElement).getPropertyValue('--' + c))")
    assert len(set(lines)) == 7
    page.expects = ["ERR_CONNECTION_REFUSED"]
    seen.stop()  # what is old is readable too
    page.wait(lambda: page.text("#state") == "not reachable", "the page")
    assert min(page.js(CONTRASTS))[0] >= 4.5, min(page.js(CONTRASTS))


@pytest.mark.parametrize("width", [320, 390, 768, 1024])
def test_every_width_shows_all_without_scrolling_sideways(world, seen, page, width):
    world.pair(seen)
    page.be(width, 800, phone=width < 500)
    for fragment, n in (("", 2), ("#accounts", 1)):
        page.open(seen, fragment)
        page.wait(lambda n=n: len(page.rows()) == n, "the rows")
        page.is_ready()
        page.click(".open")
        assert page.js("return document.documentElement.scrollWidth") <= width
        outside = page.js("""return [...document.querySelectorAll('main *, header *')].filter((e) => e.checkVisibility() && !e.closest('svg, .unseen'))
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < 0).map((e) => e.outerHTML.slice(0, 80))""")
        assert not outside
        assert not page.js("return [...document.querySelectorAll('.tiles .figure')].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.innerText)")
        small = page.js("""return [...document.querySelectorAll('button, select, input, nav a')].filter((e) => e.checkVisibility())
            .filter((e) => { const r = e.getBoundingClientRect(); return r.width < 24 || r.height < 24; }).map((e) => e.outerHTML.slice(0, 80))""")
        assert not small, "too small for a finger (WCAG 2.2, 2.5.8)"


def test_nothing_moves_when_data_come(world, seen, page):
    Traffic(world, world.pair(seen).address, 500)
    page.d.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": """
        window.shifts = []; new PerformanceObserver((l) => l.getEntries().forEach((e) => shifts.push(e.value))).observe({type: 'layout-shift', buffered: true});"""})
    page.open(seen)
    page.wait(lambda: len(page.rows()) == 2 and "bit/s" in page.rows()[0][3], "traffic in the table")
    assert sum(page.js("return shifts")) < 0.02
    page.expects = ["ERR_CONNECTION_REFUSED"]
    seen.stop()
    page.wait(lambda: page.text("#news"), "the news")
    assert sum(page.js("return shifts")) < 0.02


def test_who_wants_less_motion_is_asked_less_often_of(seen, page):
    page.be(1280, 900, calm=True)
    page.open(seen)
    page.is_ready()
    assert page.js("return matchMedia('(prefers-reduced-motion: reduce)').matches")
    times = page.wait(lambda: (t := page.js("return performance.getEntriesByType('resource').filter((e) => e.name.includes('series')).map((e) => e.startTime)"))
                      and len(t) >= 2 and t, "a second question")
    assert times[1] - times[0] > 4000


# -- what may go wrong

def test_a_relay_that_goes_leaves_what_it_said_with_the_time(world, page):
    port = free_tcp_port()
    relay = admin_relay(world, admin=f"127.0.0.1:{port}")
    end = world.pair(relay)
    Traffic(world, end.address, 500)
    page.open(relay)
    page.wait(lambda: len(page.rows()) == 2 and "kbit/s" in page.legend("traffic")["in"], "traffic")
    page.expects = ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"]
    relay.p.send_signal(signal.SIGKILL)
    page.wait(lambda: page.text("#state") == "not reachable", "the page")
    assert re.search(r"The relay does not answer; what you see is of \d\d:\d\d:\d\d\.", page.text("#news"))
    assert len(page.rows()) == 2 and "kbit/s" in page.legend("traffic")["in"]
    admin_relay(world, admin=f"127.0.0.1:{port}", name="another")
    page.wait(lambda: page.text("#state") == "ready" and page.rows() == [], "the next relay")
    page.wait(lambda: page.legend("tunnels") == {"connected": "0"}, "that nothing is left of the first")
    assert page.text("#news") is None or page.text("#news") == ""


def test_the_token_is_asked_for_and_kept_in_memory_only(world, page):
    relay = admin_relay(world, "--admin-token-file", token_file(world))
    page.expects = ["401"]
    page.open(relay)
    page.wait(lambda: page.text("#login"), "the question")
    assert page.text("#state") == "token needed"
    page.press("ESCAPE")
    assert page.text("#login"), "there is nothing behind it to see"
    page.type("#token", "wrong")
    page.press("ENTER")
    page.wait(lambda: "was not the token" in (page.text("#login") or ""), "that it was wrong")
    page.type("#token", TOKEN)
    page.press("ENTER")
    page.is_ready()
    page.wait(lambda: "No tunnel" in (page.text(".none") or ""), "the table")
    assert page.text("#login") is None and TOKEN not in page.js("return document.documentElement.outerHTML + document.querySelector('#token').value")
    assert page.js("return [localStorage.length, sessionStorage.length, document.cookie, location.href]") == [0, 0, "", page.base]
    page.log()
    assert not [url for url in page.asked if TOKEN in url]
    page.d.refresh()
    page.wait(lambda: page.text("#login"), "the question again")


def test_over_tls_it_is_the_same(world, page):
    relay = admin_relay(world, "--admin-token-file", token_file(world), admin="0.0.0.0:0")
    page.expects = ["401"]
    page.open(relay)
    page.wait(lambda: page.text("#login"), "the question")
    page.type("#token", TOKEN)
    page.press("ENTER")
    page.is_ready()


def test_the_policy_stops_what_is_not_of_the_page(seen, page):
    """The fixture looks at the console after each test: here it would have something to see."""
    page.open(seen)
    page.is_ready()
    assert page.log() == []
    page.js("""const s = document.createElement('script'); s.textContent = 'window.came = 1'; document.body.append(s);
        const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);
        document.body.setAttribute('style', 'display: none');""")
    assert page.js("return window.came") is None and page.text("h1"), "neither script nor style came through"
    assert page.js("return fetch('http://127.0.0.1:9/').then(() => 'came', () => 'stopped')") == "stopped"
    said = page.wait(lambda: len(s := page.log()) >= 4 and s, "what the browser says of it")
    for directive in ("script-src", "style-src", "img-src", "connect-src"):
        assert any(directive in line for line in said), directive
    page.expects, page.asked = ["Content Security Policy", "127.0.0.1:9"], []


# -- pictures

def a_busy_relay(world):
    relay = admin_relay(world, "--node", "fra-1", "--workers", "2")
    tokens = {name: world.new_account(relay, name) for name in ("acme", "bolt", "northwind")}
    for n, (name, token) in enumerate(tokens.items()):
        echo = world.echo()
        world.end(relay, echo.port, f"{name}-home", f"{name}-laptop", "--forward", token=token)
        laptop = world.end(relay, free_port(), f"{name}-laptop", f"{name}-home", "--listen", token=token)
        Traffic(world, endpoint(laptop), 1200 - 300 * n, 0.004 * (n + 1))
    for n in range(3):
        world.end(relay, free_port(), f"office-{n}", "hub", "--listen", token=tokens["acme"])
    lonely = world.end(relay, free_port(), "lonely", "nobody", "--listen", token=tokens["bolt"])
    Traffic(world, endpoint(lonely), 100, 0.3)
    return relay


def test_pictures_of_it_are_small(world, page):
    relay = a_busy_relay(world)
    os.makedirs(SHOTS, exist_ok=True)
    page.open(relay)
    page.wait(lambda: len(page.rows()) == 10, "the tunnels")
    seconds = 55 if "TUNN_SHOTS" in os.environ else 3
    page.wait(lambda: get_json(relay, "/api/v1/series")["length"] >= seconds, "some history", seconds=90)
    for name, width, height, dark in (("light", 1200, 1180, False), ("dark", 1200, 1180, True), ("phone", 360, 900, False)):
        page.be(width, height, dark=dark, phone=width < 500)
        page.open(relay)
        page.js("const s = document.querySelector('#window'); s.value = '60'; s.dispatchEvent(new Event('change'))")
        page.wait(lambda: len(page.rows()) == 10 and "bit/s" in page.rows()[0][3 if width > 500 else 1], "rates")
        path = f"{SHOTS}/page-{name}.png"
        page.shot(path)
        subprocess.run(["pngquant", "--force", "--output", path, "64", path], check=True)
        assert 5_000 < os.path.getsize(path) < SHOT_MAX
