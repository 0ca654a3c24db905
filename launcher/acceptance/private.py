"""What a report that is shown to others must not say: names of host and user, and folders of theirs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from launcher.acceptance import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What is replaced in texts.

    Attributes:
        folders: path and what stands for it.
        names: words, such as the host's name, and what stands for them.
    """

    folders: Mapping[str, str]
    names: Mapping[str, str]

    def cleaned(self, text: str) -> str:
        """The text without them: the longest folder first, names as whole words with a domain behind them."""
        for folder in sorted(self.folders, key=len, reverse=True):
            if len(folder) > 1:  # "/" is nobody's
                text = re.sub(rf"{re.escape(folder)}(?![\w.-])", self.folders[folder], text)
        for name, stand_in in sorted(self.names.items(), key=lambda item: -len(item[0])):
            if name:
                whole = rf"(?<!\w){re.escape(name)}(?:\.\w[\w.-]*)?(?!\w)"
                text = re.sub(whole, stand_in, text, flags=re.IGNORECASE)
        return re.sub(r"/(home|Users)/[^/\s:'\"]+", r"/\1/[user]", text)


def cleaned(report: Report, secrets: Secrets) -> Report:
    """The report with its free texts cleaned: what programs printed. Facts are made of known fields alone."""
    return replace(
        report,
        notes=tuple(map(secrets.cleaned, report.notes)),
        checks=tuple(replace(each, detail=secrets.cleaned(each.detail)) for each in report.checks),
        curves=tuple(replace(each, detail=secrets.cleaned(each.detail)) for each in report.curves),
        speed=tuple(replace(each, detail=secrets.cleaned(each.detail)) for each in report.speed),
    )
