"""The page about a run, in a real browser: what it shows, how it is used, what it survives."""

from __future__ import annotations

import itertools
import json
import tempfile
import unittest
from pathlib import Path
from urllib.parse import quote

from harness.runner.reports.page import duration, html_of, write_html
from harness.runner.reports.page_data import embedded, rows_of
from harness.runner.results import RunResult, Status, TestRecord
from suites.selftest import report_runs as runs
from suites.selftest.browser import Browser, chromium

SYNC = "#suites.test_model.TestSync.test_sync"
STEP_7 = "#suites.test_model_0.TestModel0.test_step_7"


class TestText(unittest.TestCase):
    """What needs no browser."""

    def test_it_asks_for_nothing_from_anywhere(self):
        page = html_of(runs.ten(bad=True))
        for word in ("src=", "<link rel=stylesheet", "@import", "url(", "fetch("):
            self.assertNotIn(word, page)
        addresses = page.count("http://") + page.count("https://")
        self.assertEqual(addresses, page.count("http://www.w3.org/2000/svg"))

    def test_it_can_be_written_whatever_is_in_it(self):
        page = html_of(runs.nasty())
        page.encode()
        self.assertEqual(page.lower().count("<script"), 3)  # two of data, and our own
        self.assertNotIn("<img", page)

    def test_embedded_data_is_ascii_and_has_no_markup(self):
        text = embedded([runs.NASTY, 1])
        self.assertTrue(text.isascii())
        self.assertFalse(set("<>&\x00") & set(text))
        lines = text.split("\n")
        self.assertEqual([json.loads(line) for line in lines], [runs.NASTY, 1])

    def test_tests_of_one_name_have_addresses_of_their_own(self):
        records = [TestRecord("a.b", Status.PASSED) for _ in range(3)]
        self.assertEqual(
            [row.key for row in rows_of(runs.run_of(records))], ["a.b", "a.b~2", "a.b~3"]
        )

    def test_durations(self):
        texts = [duration(s) for s in (0.0004, 9.9, 12.34, 200, 7300)]
        self.assertEqual(texts, ["0.000 s", "9.900 s", "12.3 s", "3 min 20 s", "2 h 1 min"])


@unittest.skipUnless(chromium(), "needs chromium on PATH")
class TestPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="selftest ")
        cls.addClassCleanup(folder.cleanup)
        cls.page = Path(folder.name, "report #1.html")
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def show(self, run, tail=""):
        """Open the page about a run; nothing may complain, here or until the test has ended."""
        write_html(run, self.page)
        self.browser.look()
        self.addCleanup(lambda: self.assertEqual(self.browser.complaints, []))
        self.browser.open(self.page, tail)
        return self.browser

    def names(self, browser):
        """The tests that are shown, from the top."""
        script = (
            "[...document.querySelectorAll('tr.test:not([hidden]) .own')].map(x => x.textContent)"
        )
        return browser.evaluate(script)

    def click(self, browser, selector):
        browser.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def search(self, browser, text):
        typed = f"Object.assign(document.getElementById('text'), {{ value: {json.dumps(text)} }})"
        browser.evaluate(f"{typed}.dispatchEvent(new Event('input'))")

    def test_summary_and_rows(self):
        browser = self.show(runs.ten(bad=True))
        self.assertEqual(len(self.names(browser)), 10)
        summary = " ".join(browser.text("header").split())
        for part in ("✗ 1 failed ✓ 8 passed", "1 skipped ↻ 1 flaky", "seed 1234", "2 jobs"):
            self.assertIn(part, summary)
        self.assertEqual(browser.evaluate("document.title"), "1 failed, 8 passed")
        self.assertEqual(browser.count("tr.detail"), 0)

    def test_the_run_over_time(self):
        browser = self.show(runs.ten(bad=True))
        self.assertEqual(browser.count("#overview g.lane"), 2)
        self.assertEqual(
            browser.count("#overview g.lane rect.clickable"), 11
        )  # one has two attempts
        browser.evaluate(
            "document.querySelector('#overview rect.flaky').dispatchEvent(new MouseEvent('click'))"
        )
        self.assertEqual(browser.text("tr.open .own"), "test_step_7")
        self.assertEqual(browser.evaluate("location.hash"), STEP_7)

    def test_filters_in_the_address(self):
        browser = self.show(runs.ten(bad=True), "?status=failed")
        self.assertEqual(self.names(browser), ["test_step_5"])
        self.assertEqual(browser.text("#shown"), "1 of 10 tests")
        self.assertEqual(browser.text("[aria-pressed=true]").split(), ["failed", "1"])
        browser = self.show(runs.ten(bad=True), "?status=flaky")
        self.assertEqual(self.names(browser), ["test_step_7"])
        browser = self.show(runs.ten(bad=True), "?text=CUDA%20requires&status=skipped")
        self.assertEqual(self.names(browser), ["test_step_2"])

    def test_filters_by_hand(self):
        browser = self.show(runs.ten(bad=True))
        self.click(browser, "[data-status=passed]")
        self.assertEqual(len(self.names(browser)), 8)
        self.search(browser, "STEP_7")
        self.assertEqual(self.names(browser), ["test_step_7"])
        self.assertEqual(browser.evaluate("location.search"), "?status=passed&text=STEP_7")
        self.search(browser, "no such test")
        self.assertEqual(self.names(browser), [])
        self.click(browser, "#none button")
        self.assertEqual(len(self.names(browser)), 10)

    def test_sorting(self):
        browser = self.show(runs.ten(bad=True), "?sort=seconds")
        self.assertEqual(self.names(browser)[:2], ["test_step_2", "test_step_7"])
        self.click(browser, "th.status button")
        self.assertEqual(self.names(browser)[:3], ["test_step_5", "test_step_7", "test_step_2"])
        self.click(browser, "th.status button")
        self.assertEqual(self.names(browser)[-1], "test_step_5")
        self.click(browser, "th.status button")
        self.assertEqual(self.names(browser), [f"test_step_{n}" for n in range(10)])

    def test_a_link_opens_a_test(self):
        browser = self.show(runs.desync(), SYNC)
        self.assertEqual(browser.count("tr.detail"), 1)
        self.assertEqual(browser.count("tr.detail g.lane"), 4)
        self.assertEqual(browser.count("tr.detail g.lane .pending"), 2)
        ends = browser.evaluate(
            "[...document.querySelectorAll('tr.detail text.ending')].map(x => x.textContent)"
        )
        self.assertEqual(ends, ["✓ passed", "✗ timed out", "✗ timed out", "✓ passed"])
        text = browser.text("tr.detail")
        for part in ("RanksTimedOutError", "it waited in broadcast", "loss is nan", "in forward"):
            self.assertIn(part, text)
        self.assertGreater(browser.evaluate("scrollY"), 0)

    def test_phases_are_drawn_where_they_were(self):
        browser = self.show(runs.ten(), "#suites.test_model_0.TestModel0.test_step_1")
        kinds = "[...document.querySelectorAll('tr.detail g.axis + g.lane rect')]"
        script = (
            f"{kinds}.map(x => [x.getAttribute('class'), x.x.baseVal.value, x.width.baseVal.value])"
        )
        boxes = [box for box in browser.evaluate(script) if box[0] != "lane-back"][:5]
        self.assertEqual(
            [box[0] for box in boxes], ["start", "set-up", "body", "tear-down", "exit"]
        )
        for (_, x, width), (_, following, _) in itertools.pairwise(boxes):
            self.assertAlmostEqual(x + width, following, places=1)
        self.assertAlmostEqual(boxes[0][2] / boxes[2][2], 0.3 / 0.5, places=2)

    def test_collectives_side_by_side(self):
        browser = self.show(runs.desync(), SYNC)
        browser.evaluate("document.querySelector('tr.detail details').open = true")
        browser.settle()
        self.assertEqual(browser.count(".collectives tbody tr"), 7)
        row = (
            "[...document.querySelector('.collectives .differs').children].map(x => x.textContent)"
        )
        expected = ["default_pg", "7", "\u2013", "all_reduce float32 [1024, 16] …"]
        self.assertEqual(browser.evaluate(row)[:4], expected)

    def test_by_keyboard(self):
        browser = self.show(runs.desync())
        browser.press("/")
        self.assertEqual(browser.evaluate("document.activeElement.id"), "text")
        browser.evaluate("document.querySelector('tr.test a').focus()")
        browser.press("Enter", 13)
        self.assertEqual(browser.count("tr.detail g.lane"), 4)
        browser.evaluate("document.querySelectorAll('tr.detail g.lane')[1].focus()")
        browser.press("End", 35)
        self.assertIn("timed out after", browser.text("#tip"))
        browser.press("ArrowLeft", 37)
        self.assertIn("all_gather #6", " ".join(browser.text("#tip").split()))
        browser.evaluate("document.querySelector('tr.test a').focus()")
        browser.press("Enter", 13)
        self.assertEqual(browser.count("tr.detail"), 0)

    def test_zoom(self):
        browser = self.show(runs.desync(), SYNC)
        first = "document.querySelector('tr.detail .collective').width.baseVal.value"
        before = browser.evaluate(first)
        self.click(browser, ".detail .tools button")
        self.assertGreater(browser.evaluate(first), 5 * before)
        self.click(browser, ".detail .tools button:last-child")
        self.assertEqual(browser.evaluate(first), before)

    def test_earlier_attempts(self):
        browser = self.show(runs.ten(bad=True), STEP_7)
        folded = "[...document.querySelectorAll('.detail details')].pop()"
        self.assertIn("attempt 1: failed", browser.evaluate(f"{folded}.textContent"))
        browser.evaluate(f"{folded}.open = true")
        browser.settle()
        self.assertIn("first try", browser.text(".detail"))
        self.assertEqual(browser.count(".attempt g.lane"), 1)

    def test_a_test_without_ranks_has_its_text_only(self):
        browser = self.show(runs.ten(bad=True), STEP_7.replace("7", "3"))
        self.assertEqual(browser.count(".detail svg"), 0)
        self.assertIn("step 1\nstep 2", browser.text(".detail"))
        self.assertIn("a warning", browser.text(".detail"))

    def test_nothing_a_test_says_becomes_markup(self):
        run = runs.nasty()
        browser = self.show(run, "#" + quote(rows_of(run)[0].key, safe=""))
        self.assertEqual(browser.count("tr.detail"), 1)
        self.assertEqual(browser.count("img"), 0)
        self.assertEqual(browser.count("script"), 3)
        self.assertEqual(browser.evaluate("document.title"), "1 failed, 0 passed")
        for part in (
            "</script><script>",
            "<img src=x",
            "&amp;",
            "{{ 7*7 }}",
            "\u2028",
            "␀",
            "\\ud800",
        ):
            self.assertIn(part, browser.text(".detail"))
        self.assertEqual(browser.text(".detail pre .c1.bold"), "red")

    def test_two_thousand_tests(self):
        step_40 = "#suites.test_model_2.TestModel0.test_step_40"
        browser = self.show(runs.many(2000), step_40)
        self.assertEqual(len(self.names(browser)), 2000)
        self.assertEqual(browser.count("tr.detail g.lane"), 2)
        self.assertEqual(browser.count("tr.detail .collective"), 101)  # with the legend's
        self.assertEqual(browser.count("#overview g.lane"), 4)
        self.click(browser, "[data-status=failed]")
        self.assertEqual(len(self.names(browser)), 21)

    def test_a_megabyte_of_output(self):
        run = runs.ten()
        run.records[3].stdout = "x" * 1_000_000 + "\n"
        run.records[3].stderr = "\x1b[31mred\x1b[0m \x00\x01\n" * 50_000
        browser = self.show(run, STEP_7.replace("7", "3"))
        self.assertEqual(
            browser.evaluate("document.querySelector('pre').textContent.length"), 1000001
        )

    def test_a_run_of_nothing(self):
        browser = self.show(RunResult(interrupted=True, not_run=3))
        self.assertIn("nothing ran", browser.text("header"))
        self.assertIn("3 tests were not run", browser.text("header"))
        self.assertIn("No tests were found", browser.text("main"))

    def test_a_narrow_window(self):
        self.show(runs.desync(), SYNC)
        for dark in (False, True):
            self.browser.look(width=390, dark=dark)
            width = self.browser.evaluate("document.documentElement.scrollWidth")
            self.assertLessEqual(width, 390)

    def test_colours_can_be_told_from_what_is_behind_them(self):
        """A contrast of 4.5, as the Web's guidelines ask of text, in both schemes."""
        words = [
            "text",
            "dim",
            "link",
            "passed",
            "failed",
            "skipped",
            "flaky",
            "unfinished",
            "cyan",
        ]
        pairs = [(word, behind) for word in words for behind in ("back", "raised", "chosen")]
        pairs += [("failed", "failed-back"), ("text", "failed-back"), ("text", "skipped-back")]
        script = (
            "(n => getComputedStyle(document.documentElement).getPropertyValue(n).trim())('--{}')"
        )
        self.show(runs.ten())
        for dark in (False, True):
            self.browser.look(dark=dark)
            for word, behind in pairs:
                colour, ground = (self.browser.evaluate(script.format(n)) for n in (word, behind))
                with self.subTest(dark=dark, word=word, behind=behind):
                    self.assertGreaterEqual(contrast(colour, ground), 4.5)


def contrast(one, other):
    """Of two colours such as #1b1f24, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
