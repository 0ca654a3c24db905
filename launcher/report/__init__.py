"""Runs as a page: the story of each (``story``), its curves (``curves``), and the page itself (``page``)."""

from launcher.report.page import render
from launcher.report.story import Evaluation, Story, evaluation, standing, tell

__all__ = ["Evaluation", "Story", "evaluation", "render", "standing", "tell"]
