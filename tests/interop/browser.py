"""Headless Chromium for the tests of the status page, from Debian's packages."""
import json
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

WORDS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-background-networking",
         "--ignore-certificate-errors", "--lang=en")


class Browser:
    """A page of a relay: what it shows, what it did."""

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for word in WORDS:
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.d = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.said, self.asked = [], []
        self.be(1280, 900)

    def be(self, width, height, dark=False, calm=False, phone=False):
        self.d.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone})
        self.d.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}]})

    def open(self, relay, fragment=""):
        self.base = f"http{'s' if relay.tls else ''}://127.0.0.1:{relay.admin}/"
        self.d.get("about:blank")  # or another fragment would be no new page
        self.d.get(self.base + fragment)

    def js(self, code, *args):
        return self.d.execute_script(code, *args)

    def text(self, selector):
        """As a person sees it; None: it is not there or not visible."""
        return self.js("const e = document.querySelector(arguments[0]); return e && e.checkVisibility() ? e.innerText.replaceAll(/[\\u00a0\\u202f]/g, ' ') : null",
                       selector)

    def texts(self, selector):
        return self.js("return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility())"
                       ".map((e) => e.innerText.replaceAll(/[\\u00a0\\u202f]/g, ' '))", selector)

    def rows(self):
        """Of the table: lists of what is in their cells, lines apart by |."""
        return [[c.replace("\n", "|") for c in row] for row in self.js(
            "return [...document.querySelectorAll('tbody tr:not(.more)')].map((r) => [...r.cells].filter((c) => c.checkVisibility())"
            ".map((c) => c.innerText.replaceAll(/[\\u00a0\\u202f]/g, ' ')))")]

    def legend(self, chart):
        """Of a chart: what its lines are at the moment."""
        return dict(zip(self.texts(f"#chart-{chart} .legend .name"), self.texts(f"#chart-{chart} .legend .value")))

    def click(self, selector):
        self.d.find_element("css selector", selector).click()

    def type(self, selector, text, clear=True):
        e = self.d.find_element("css selector", selector)
        if clear:
            e.clear()
        e.send_keys(text)

    def press(self, *names):
        for name in names:
            self.d.switch_to.active_element.send_keys(getattr(Keys, name))

    def wait(self, true, what="it", seconds=20):
        end = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < end, f"{what} did not become so; the page says:\n" + self.js("return document.body.innerText")
            time.sleep(0.05)
        return value

    def is_ready(self):
        self.wait(lambda: self.text("#state") == "ready", "the page")

    def log(self):
        """What the console said since the page's first moment, and whom it asked."""
        self.said += [line["message"] for line in self.d.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
        for line in self.d.get_log("performance"):
            m = json.loads(line["message"])["message"]
            if m["method"] == "Network.requestWillBeSent":
                self.asked.append(m["params"]["request"]["url"])
        return self.said

    def shot(self, path):
        self.d.save_screenshot(path)

    def close(self):
        self.d.quit()
