"""Runs as one HTML file that asks nobody for anything: text, curves and the program that draws them. Pure.

Whatever a run printed or was given is untrusted text. It is escaped where it stands as text, and in the data
of the curves no character of it can end the script. Should either ever fail, the page's own policy runs only
the scripts whose hashes it names, and lets none of them reach a network.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from launcher import comparison
from launcher.comparison import GROUPS, hashed, shortened, text
from launcher.report.curves import Curve, smooth, thin
from launcher.report.story import Story
from launcher.texts import duration

if TYPE_CHECKING:
    from jinja2 import Environment

_TITLES = {
    "recipe": "Recipe",
    "parameter": "Parameters",
    "data": "Data",
    "model": "Model",
    "target": "Target and device",
    "packages": "Packages and versions",
    "runtime": "Beside the trainer",
    "variable": "Variables",
    "host": "Machine",
}

MARKS = {"done": "✓ done", "failed": "✗ failed", "stopped": "■ stopped", "open": "… not ended"}

_WARNING = (
    "Secrets are named and not shown, but a log may hold whatever the recipe printed: read its end before "
    "you pass this page on."
)


def render(stories: Sequence[Story], *, written: str) -> str:
    """The page of one run, or of several with their comparison.

    Args:
        stories: at least one.
        written: when, and by which launcher.
    """
    scripts = {"theme": asset("theme.js")}
    if any(story.trains for story in stories):
        scripts |= {"plotly": plotly(), "charts": asset("charts.js")}
    hashes = " ".join(f"'{_sha256(script)}'" for script in scripts.values())
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    letters = comparison.letters(len(stories))
    labels = [""] if len(stories) == 1 else letters
    curves = [
        {"name": story.id, "label": label, "series": series(story.curves)}
        for story, label in zip(stories, labels, strict=True)
    ]
    return _filled(
        "run.html.j2" if len(stories) == 1 else "runs.html.j2",
        runs=[{**view(story), "letter": letter} for story, letter in zip(stories, letters, strict=True)],
        recipes=list(dict.fromkeys(story.recipe for story in stories)),
        comparison=comparison.compare([story.run for story in stories]),
        live=False,
        policy=policy,
        css=_safe(asset("base.css")),
        data=_safe(_json({"runs": curves})),
        about=f"{written}. {_WARNING}",
        **{name: _safe(script) for name, script in scripts.items()},
    )


def board(story: Story, *, policy: str) -> str:
    """The page of one run as the board serves it: its scripts and curves are asked for separately."""
    return _filled(
        "run.html.j2",
        runs=[{**view(story), "letter": "A"}],
        live=True,
        policy=policy,
        about=_WARNING,
    )


def listing(*, policy: str, folder: str) -> str:
    """The board's list of runs; its rows are asked for separately."""
    return _filled("board.html.j2", live=True, policy=policy, folder=folder)


def asset(name: str) -> str:
    """A file of the pages."""
    return (files("launcher.report") / "assets" / name).read_text(encoding="utf-8")


def plotly() -> str:
    """plotly.js, as the package of that name carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def series(curves: Mapping[str, Curve]) -> dict[str, list[list[float | None]]]:
    """Curves for the page: steps and values, few enough to be drawn; no number is null."""
    return {name: columns(thin(curve)) for name, curve in smooth_too(curves).items()}


def smooth_too(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The same curves, and the loss as a smooth line."""
    if "loss" not in curves:
        return dict(curves)
    return {**curves, "loss_smooth": smooth(curves["loss"])}


def columns(points: Iterable[tuple[int, float]]) -> list[list[float | None]]:
    """(step, value) pairs as two lists; six digits are more than any screen shows."""
    pairs = list(points)
    return [
        [step for step, _ in pairs],
        [float(f"{value:.6g}") if math.isfinite(value) else None for _, value in pairs],
    ]


def view(story: Story) -> dict[str, Any]:
    """A run as the templates read it."""
    facts: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
    for fact in story.facts:
        facts[fact.group].append((fact.name, fact.value))
    return {
        **{name: getattr(story, name) for name in ("id", "recipe", "state", "said", "trains", "failure")},
        **{name: getattr(story, name) for name in ("evaluations", "command", "log")},
        "log_lines": len(story.log.splitlines()),
        "tiles": tiles(story),
        "groups": [(_TITLES[group], pairs) for group, pairs in facts.items() if pairs],
        "attempts": [_line(each) for each in story.attempts],
    }


def tiles(story: Story) -> list[dict[str, Any]]:
    """The outcome in a few numbers, those first that people ask for first."""
    figures = story.figures
    found: list[dict[str, Any]] = []

    def add(key: str, name: str, value: str, more: str = "", bar: float | None = None) -> None:
        found.append({"key": key, "name": name, "value": value, "more": more, "bar": bar})

    loss = [value for _, value in story.curves.get("loss", ())]
    steps = int(figures.get("steps", 0))
    if story.trains:
        mean = figures.get("train_loss")
        last = figures.get("loss", loss[-1] if loss else 0.0)  # a curve has no points that are no numbers
        span = f"{loss[0]:.3g} → {last:.3g}" if loss else "–"
        add("loss", "Loss, first → last", span, f"mean {text(mean, '')}" if mean is not None else "")
        share = min(100.0, 100 * steps / story.max_steps) if story.max_steps else None
        planned = f"of {story.max_steps:,}" if story.max_steps else ""
        add("steps", "Steps", f"{steps:,}", planned, share)
        add("speed", "Time per step", _or_dash(figures, "seconds_per_step", "s"), _speed(figures))
        add("memory", *_memory(figures))
    add("seconds", "Wall time", duration(story.seconds) if story.seconds is not None else "–", _since(story))
    for each in story.evaluations[:1]:
        for one in each.figures[:1]:
            before = "" if one.before is None else f"before {one.before:.3f}"
            add("evaluation", f"{one.head} {one.metric}", f"{one.after:.3f}", before)
    return found


def _speed(figures: Mapping[str, float]) -> str:
    pace = figures.get("tokens_per_second")
    said = [] if pace is None else [f"{pace:,.0f} tokens/s"]
    if "padding" in figures:
        said.append(f"{text(figures['padding'], 'share')} padding")
    return ", ".join(said)


def _memory(figures: Mapping[str, float]) -> tuple[str, str, str]:
    if "device_peak" in figures:
        return (
            "Peak memory, device",
            text(figures["device_peak"], "bytes"),
            (f"RAM {text(figures['ram_peak'], 'bytes')}" if "ram_peak" in figures else ""),
        )
    return "Peak memory, RAM", _or_dash(figures, "ram_peak", "bytes"), ""


def _or_dash(figures: Mapping[str, float], key: str, unit: str) -> str:
    return text(figures[key], unit) if key in figures else "–"


def _since(story: Story) -> str:
    return f"from {story.started[:16].replace('T', ' ')} UTC" if story.started else ""


def _line(values: Mapping[str, Any]) -> str:
    plain = {key: each if isinstance(each, str) else json.dumps(each) for key, each in values.items()}
    return ", ".join(f"{key} {each}" for key, each in plain.items())


def _change(before: float | None, after: float) -> str:
    return "" if before is None else f"{after - before:+.4f}".replace("-", "−")


def _change_class(before: float | None, after: float) -> str:
    """Every figure of ``evaluate`` is better when it is higher."""
    return "" if before is None or before == after else "up" if after > before else "down"


def _json(value: object) -> str:
    """JSON that stands in an HTML script: nothing in it can end the element or begin a comment."""
    plain = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _safe(ours: str) -> Any:
    """Text of ours, or escaped already, which the template takes as it is."""
    from markupsafe import Markup

    return Markup(ours)  # noqa: S704 - never what a run printed: see where it is called


def _sha256(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _filled(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(asset),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "marks": MARKS,
        "hashed": hashed,
        "number": text,
        "short": shortened,
        "change": _change,
        "change_class": _change_class,
    }
    return made
