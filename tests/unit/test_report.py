"""launcher.report and its use case: what a page says, and that it asks nobody and runs nothing of a run's."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import report
from launcher.app import report as reports
from launcher.errors import OutputError, UsageError
from launcher.report.curves import POINTS, smooth, thin
from launcher.report.page import series
from tests.support import records

_VOID = {"meta", "link", "br", "img", "input", "hr", "col"}


class Reader(HTMLParser):
    """Checks that elements are nested, and keeps what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.asked: list[str] = []
        self.data = self.policy = self.text = ""
        self._kind = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not [name for name in given if name.startswith("on")], (tag, given)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._kind = given.get("type") or "" if tag == "script" else ""
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            if self._kind == "application/json":
                self.data += data
            else:
                self.scripts.append(data)
        else:
            self.text += data


@pytest.fixture(autouse=True)
def small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four megabytes of somebody else's program prove nothing here; a browser runs them elsewhere."""
    monkeypatch.setattr("launcher.report.page.plotly", lambda: "/* plotly */")


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def page(*folders: Path) -> tuple[str, Reader]:
    html = report.render(reports.gather([str(each) for each in folders]), written="Written now")
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return html, reader


# ------------------------------------------------------------------------------------------------ the page
def test_the_outcome_comes_first(parent: Path) -> None:
    _, found = page(records.make(parent))
    assert "✓ done" in found.text
    assert "3.5 → 0.53" in found.text
    assert "0.2 s" in found.text
    assert "40,000 tokens/s, 20.0 % padding" in found.text
    assert "4.00 GiB" in found.text  # the peaks of both ranks together
    assert "of 100" in found.text
    for fact in ("learning_rate", "c" * 64, "e" * 64, "HF_TOKEN", "1,000 rows", "OMP_NUM_THREADS", "3.11.7"):
        assert fact in found.text
    curves = json.loads(found.data)["runs"][0]["series"]
    assert curves["loss"][0] == list(range(1, 101))
    assert set(curves) >= {"loss", "loss_smooth", "learning_rate", "grad_norm", "ram", "tokens_per_second"}


def test_a_page_asks_nobody(parent: Path) -> None:
    folder = records.make(parent, ended=1, log=f"{records.HOSTILE}\n")
    records.fail(folder)
    html, found = page(folder)
    assert found.asked == ["data:,"]
    assert "url(" not in html
    assert "@import" not in html
    assert found.policy.startswith("default-src 'none'; script-src 'sha256-")
    for scripts in re.findall(r"script-src ([^;]*)", found.policy):
        assert "unsafe" not in scripts
        assert "http" not in scripts
    # the policy names exactly the scripts that are there
    hashes = {base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in found.scripts}
    assert hashes == set(re.findall(r"'sha256-([^']*)'", found.policy))
    assert len(found.scripts) == 3


def test_what_a_run_says_is_text(parent: Path) -> None:
    hostile = records.HOSTILE
    folder = records.make(
        parent,
        ended=1,
        log=f"first\n{hostile}\n",
        parameters=(("learning_rate", hostile),),
        env=(("NAME", hostile),),
    )
    records.fail(folder)
    records.write_events(folder, [{"event": "step", "rank": 0, "step": 100, f"eval_{hostile}": 1.0}])
    records.end(folder, exit_code=1, error=hostile)
    html, found = page(folder)
    assert "<img" not in html
    assert html.count("<script>") == 3  # theme, plotly, charts: none of the run's
    assert found.text.count(hostile) >= 5
    assert f"eval_{hostile}" in json.loads(found.data)["runs"][0]["series"]
    assert "</script" not in found.data


@given(st.text(max_size=60))
def test_no_text_ends_the_data(text: str) -> None:
    from launcher.report.page import _json

    made = _json({"name": text})
    assert not set("<>&") & set(made)
    assert json.loads(made) == {"name": text}


def test_a_failure_is_told(parent: Path) -> None:
    folder = records.make(parent, steps=7, ended=1, cause="no such kernel")
    records.fail(folder, "no such kernel")
    _, found = page(folder)
    assert "✗ failed" in found.text
    assert "failed in stage train: exit code 1" in found.text
    assert "RuntimeError: no such kernel" in found.text
    assert "Rank 1 failed first, after step 7." in found.text
    assert "Traceback (most recent call last)" in found.text
    assert "cause no such kernel" in found.text


def test_a_run_without_steps_has_no_curves(parent: Path) -> None:
    _, found = page(records.make(parent, recipe="encode", world_size=0))
    assert "does not train" in found.text
    assert found.data == ""
    assert len(found.scripts) == 1


def test_a_run_that_broke_before_it_began(parent: Path) -> None:
    folder = records.make(parent, ended=None)
    for name in ("metrics.jsonl", "log.txt", "command"):
        (folder / name).unlink()
    _, found = page(folder)
    assert "it was started on elsewhere" in found.text
    assert json.loads(found.data)["runs"][0]["series"] == {}


def test_several_runs_are_compared(parent: Path) -> None:
    a = records.make(parent, "20261121-080000-bge-m3-unified-aaaa")
    b = records.make(parent, "20261121-090000-bge-m3-unified-bbbb", pace=0.1, parameters=(("seed", "7"),))
    _, found = page(a, b)
    assert "What differs" in found.text
    assert "learning_rate" in found.text
    assert "0.1 s ★" in " ".join(found.text.split())
    assert "×0.5" in found.text
    runs = json.loads(found.data)["runs"]
    assert [(each["name"], each["label"]) for each in runs] == [(a.name, "A"), (b.name, "B")]


def test_a_diverged_loss_is_said(parent: Path) -> None:
    folder = records.make(parent, steps=5, ended=None)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"schema": 1, "event": "step", "rank": 0, "time": 0, "step": 6, "loss": NaN}\n')
    _, found = page(folder)
    assert "→ nan" in found.text
    json.loads(found.data, parse_constant=lambda name: pytest.fail(name))


# ------------------------------------------------------------------------------------------- evaluations
def test_evaluations_are_found_beside_the_run(parent: Path) -> None:
    start = parent.parent / "tiny"
    start.mkdir(parents=True)
    folder = records.make(parent)
    records.evaluate(parent, "20261121-070000-evaluate-0001", start, 0.1)
    records.evaluate(parent, "20261121-090000-evaluate-0002", folder / "output", 0.3)
    records.evaluate(parent, "20261121-100000-evaluate-0003", parent / "another", 0.9)
    (parent / "20261121-110000-evaluate-0004").mkdir()
    (parent / "20261121-110000-evaluate-0004" / "plan.json").write_text("damaged")
    (told,) = reports.gather([str(folder)])
    (found,) = told.evaluations
    assert (found.run, found.queries) == ("20261121-090000-evaluate-0002", 300)
    assert [(each.metric, each.before, each.after) for each in found.figures] == [
        ("ndcg@10", 0.1, 0.3),
        ("recall@10", 0.2, 0.4),
    ]
    assert dict(told.run.figures)["dense ndcg@10"] == 0.3
    _, shown = page(folder)
    assert "+0.2000" in shown.text


def test_other_data_are_no_before(parent: Path) -> None:
    start = parent.parent / "tiny"
    folder = records.make(parent)
    before = records.evaluate(parent, "20261121-070000-evaluate-0001", start, 0.1)
    plan = json.loads((before / "plan.json").read_text())
    plan["data"][0]["sha256"] = "f" * 64
    (before / "plan.json").write_text(json.dumps(plan))
    records.evaluate(parent, "20261121-090000-evaluate-0002", folder / "output", 0.3)
    (told,) = reports.gather([str(folder)])
    assert [each.before for each in told.evaluations[0].figures] == [None, None]


def test_an_evaluation_with_a_baseline_has_its_own_before() -> None:
    after = {"heads": {"dense": {"ndcg@10": 0.5}}, "baseline": {"heads": {"dense": {"ndcg@10": 0.2}}}}
    found = report.evaluation("id", "dev.jsonl", after, {"heads": {"dense": {"ndcg@10": 0.9}}})
    assert [(each.before, each.after) for each in found.figures] == [(0.2, 0.5)]
    assert found.cell("sparse", "ndcg@10") is None


# ------------------------------------------------------------------------------------------------ files
def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert reports.place_of(file, force=False) == file
    file.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        reports.place_of(file, force=False)
    assert reports.place_of(file, force=True) == file
    with pytest.raises(OutputError, match="folder"):
        reports.place_of(tmp_path, force=True)


def test_a_run_named_twice(parent: Path) -> None:
    folder = records.make(parent)
    with pytest.raises(UsageError, match="twice"):
        reports.gather([str(folder), str(folder)])


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert reports.tail(log) == ""
    log.write_bytes(b"\n".join(b"%d" % number for number in range(1000)) + b"\nbar 1\rbar 2\r\n\xff\n")
    lines = reports.tail(log).splitlines()
    assert lines[-2:] == ["bar 2", "\ufffd"]
    assert len(lines) == 80
    log.write_bytes(b"x" * (1 << 20) + b"\nlast")
    assert reports.tail(log) == "last"


def test_a_report_follows_no_link(parent: Path, tmp_path: Path) -> None:
    folder = records.make(parent)
    private = tmp_path / "private"
    private.write_text("private words\n")
    for name in ("log.txt", "metrics.jsonl", "command"):
        (folder / name).unlink()
        (folder / name).symlink_to(private)
        assert "private words" not in page(folder)[0]
        assert f"{name} is a link, not shown" in page(folder)[0]


def test_an_evaluation_that_is_a_link_is_none(parent: Path, tmp_path: Path) -> None:
    trained = records.make(parent)
    measured = records.evaluate(parent, "20261121-090000-evaluate-bbbb", trained / "output", 0.5)
    assert len(reports.gather([str(trained)])[0].evaluations) == 1
    (measured / "output" / "metrics.json").rename(tmp_path / "metrics.json")
    (measured / "output" / "metrics.json").symlink_to(tmp_path / "metrics.json")
    assert reports.gather([str(trained)])[0].evaluations == ()


def test_half_of_a_sign_is_written_all_the_same(parent: Path, tmp_path: Path) -> None:
    folder = records.make(parent, ended=1)
    records.fail(folder, "half: \ud800")
    file = tmp_path / "report.html"
    reports.write(reports.gather([str(folder)]), file)
    assert "half: ?" in file.read_text()


# ------------------------------------------------------------------------------------------------ curves
Points = st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=400)


@given(Points, st.integers(4, 60))
def test_thinning_keeps_ends_and_spikes(values: list[float], points: int) -> None:
    curve = list(enumerate(values))
    found = thin(curve, points)
    assert len(found) <= max(points, 4)
    assert [found[0][0], found[-1][0]] == [0, len(values) - 1] or len(values) == 1
    steps = [step for step, _ in found]
    assert steps == sorted(set(steps))
    assert set(steps) <= set(range(len(values)))
    finite = [value for value in values if math.isfinite(value)]
    kept = [value for _, value in found if math.isfinite(value)]
    if finite:
        assert (min(kept), max(kept)) == (min(finite), max(finite))
    assert any(math.isnan(value) for _, value in found) or not any(map(math.isnan, values)) or finite


def test_a_spike_of_one_step_stays() -> None:
    curve = [(step, 99.0 if step == 54_321 else 1.0) for step in range(100_000)]
    found = thin(curve)
    assert len(found) <= POINTS
    assert (54_321, 99.0) in found


def test_the_smooth_line_begins_at_the_first_value() -> None:
    assert smooth([(1, 4.0)]) == [(1, 4.0)]
    found = smooth([(1, 4.0), (2, math.nan), (3, 2.0)])
    assert [step for step, _ in found] == [1, 3]
    assert 2.0 < found[-1][1] < 4.0
    flat = smooth([(step, 3.0) for step in range(50)])
    assert all(value == pytest.approx(3.0) for _, value in flat)


def test_series_are_json() -> None:
    found: Any = series({"loss": [(1, 1 / 3), (2, math.inf)]})
    assert found["loss"] == [[1, 2], [0.333333, None]]
    assert found["loss_smooth"] == [[1], [0.333333]]
