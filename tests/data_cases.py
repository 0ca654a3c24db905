"""Random data sets for the checker: anything at all, one thing wrong, and rows that are nearly right."""

import json
from typing import Any

from hypothesis import strategies as st

from launcher.data import Rules, rules

texts = st.sampled_from(
    ["a", "bb", "cc", "ä", "x\0", "\ufeff", " ", "", "Ã©", "long " * 9, "long " * 8 + "."]
)
maybe = st.none() | st.just(1) | texts
rows_nearby = st.fixed_dictionaries(
    {
        "query": texts,
        "pos": st.lists(texts, min_size=1, max_size=2),
        "neg": st.lists(texts, min_size=1, max_size=3),
    },
    optional={
        "pos_scores": st.lists(st.floats() | st.integers(-3, 3), max_size=2) | st.none(),
        "neg_scores": st.lists(st.floats(0, 1), max_size=3) | st.none(),
        "prompt": maybe,
        "x": maybe | st.lists(maybe, max_size=2),
    },
)


any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    "query pos neg pos_scores neg_scores prompt batch_size text title messages conversations output".split()
)
messages = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "from", "value"]),
        any_value | st.sampled_from(["user", "assistant", "human", "gpt"]),
        max_size=3,
    ),
    max_size=3,
)
any_row = st.dictionaries(fields | st.text(max_size=3), any_value | messages, max_size=6)
mutated = st.tuples(any_row, st.integers(0, 80), st.binary(max_size=3)).map(
    lambda made: (text := json.dumps(made[0]).encode())[: made[1]] + made[2] + text[made[1] + len(made[2]) :]
)
any_line = (
    any_row.map(lambda row: json.dumps(row).encode())
    | any_value.map(lambda v: json.dumps(v).encode())
    | mutated
)
any_rules = st.builds(
    Rules,
    format=st.sampled_from([*rules.FORMATS]),
    scores=st.booleans(),
    group_size=st.integers(0, 3),
    trained=st.booleans(),
)


#: Rows of an embedder that are good, or close to it: most of them pass.
words = st.text("abc äé漢", min_size=1, max_size=6).filter(str.strip)


@st.composite
def good_row(draw: st.DrawFn) -> dict[str, Any]:
    """A row with scores and extra columns, without a problem of its own."""
    texts = draw(st.lists(words, min_size=3, max_size=6, unique=True))
    cut = draw(st.integers(1, len(texts) - 2))
    scores = [draw(st.floats(-9, 9, allow_nan=False)) for _ in texts[1:]]
    extra = {"id": st.integers(0, 2**40), "type": st.just("normal"), "prompt": words, "meta": any_value}
    return {
        "query": texts[0],
        "pos": texts[1 : cut + 1],
        "neg": texts[cut + 1 :],
        "pos_scores": scores[:cut],
        "neg_scores": scores[cut:],
        **draw(st.fixed_dictionaries({}, optional=extra)),
    }


@st.composite
def nearly_good(draw: st.DrawFn) -> bytes:
    """Lines of good rows, now and then with one value replaced."""
    found = draw(st.lists(good_row(), min_size=1, max_size=3))
    if draw(st.integers(0, 3)) == 0:
        row = draw(st.sampled_from(found))
        row[draw(st.sampled_from(sorted(row)))] = draw(any_value)
    return b"\n".join(json.dumps(row).encode() for row in found)


#: The content of a file.
any_file = nearly_good() | nearly_good() | st.lists(any_line, max_size=3).map(b"\n".join)
