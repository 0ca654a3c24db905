"""Retrieval figures as trec_eval computes them, and the run files that it reads."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from block_search import Ranking, distinct

Figures = dict[str, float]


def cut_offs(text: str) -> list[int]:
    """``"100,10"`` as [10, 100].

    Raises:
        ValueError: something else than whole numbers from 1 on.
    """
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(f"{text!r}: cut-offs are whole numbers from 1 on, such as 10,100")
    return sorted({int(word) for word in words})


def figures(rankings: Sequence[Ranking], grades: Sequence[Mapping[int, int]], ks: Sequence[int]) -> Figures:
    """Means over the queries of nDCG, recall and reciprocal rank, each cut off at every k.

    Computed by pytrec_eval: ``ndcg_cut`` (Järvelin and Kekäläinen, 2002; the gain is the grade), ``recall``
    and ``recip_rank`` (a grade of 1 or more is right; 0 below k).

    Args:
        rankings: for each query its passages, best first.
        grades: for each query the right passages and their grade.
        ks: cut-offs.
    """
    import pytrec_eval

    qrels = {str(q): {str(p): grade for p, grade in right.items()} for q, right in enumerate(grades)}
    run = {str(q): {str(p): value for p, value in distinct(found)} for q, found in enumerate(rankings)}
    result: Figures = {}
    for k in ks:
        names = {f"ndcg@{k}": f"ndcg_cut_{k}", f"recall@{k}": f"recall_{k}"}
        judged = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{k}", f"recall.{k}"}).evaluate(run)
        for name, measure in names.items():
            result[name] = _mean([found[measure] for found in judged.values()], len(grades))
        # trec_eval's reciprocal rank has no cut-off: the ranking gets it
        short = {q: dict(sorted(found.items(), key=lambda item: -item[1])[:k]) for q, found in run.items()}
        judged = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(short)
        result[f"mrr@{k}"] = _mean([found["recip_rank"] for found in judged.values()], len(grades))
    return result


def _mean(values: Sequence[float], count: int) -> float:
    """The mean over ``count`` queries; one that trec_eval passed over (nothing was found) counts as 0."""
    return round(sum(values) / count, 6)


def differences(before: Mapping[str, Figures], after: Mapping[str, Figures]) -> dict[str, Figures]:
    """After minus before, of what was measured both times."""
    return {
        head: {name: round(value - before[head][name], 6) for name, value in found.items()}
        for head, found in after.items()
        if head in before
    }


def table(after: Mapping[str, Figures], before: Mapping[str, Figures] | None = None) -> str:
    """The figures for people: a line per head, or with a baseline a line per head and figure."""
    heads = dict.fromkeys([*after, *(before or {})])
    names = list(next(iter(after.values())))
    if before is None:
        lines = [f"{'head':<10}" + "".join(f"{name:>12}" for name in names)]
        lines += [f"{head:<10}" + "".join(f"{after[head][name]:>12.4f}" for name in names) for head in heads]
        return "\n".join(lines)
    lines = [f"{'head':<10}{'metric':<12}{'before':>10}{'after':>10}{'difference':>12}"]
    for head in heads:
        for name in names:
            was, now = (found.get(head, {}).get(name) for found in (before, after))
            change = "-" if was is None or now is None else f"{now - was:+.4f}"
            lines.append(f"{head:<10}{name:<12}{_shown(was):>10}{_shown(now):>10}{change:>12}")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def run_lines(
    rankings: Sequence[Ranking], query_ids: Sequence[str], passage_ids: Sequence[str], tag: str
) -> list[str]:
    """A TREC run: ``query Q0 passage rank score tag``, a line per passage."""
    return [
        f"{_word(query)} Q0 {_word(passage_ids[passage])} {rank} {value:.9g} {tag}\n"
        for query, found in zip(query_ids, rankings, strict=True)
        for rank, (passage, value) in enumerate(distinct(found), 1)
    ]


def qrels_lines(
    grades: Sequence[Mapping[int, int]], query_ids: Sequence[str], passage_ids: Sequence[str]
) -> list[str]:
    """The judgements in TREC's form: ``query 0 passage grade``."""
    return [
        f"{_word(query)} 0 {_word(passage_ids[passage])} {grade}\n"
        for query, right in zip(query_ids, grades, strict=True)
        for passage, grade in right.items()
    ]


def _word(name: str) -> str:
    """An id without white space, which separates the columns."""
    return re.sub(r"\s", lambda found: quote(found[0]), name)
