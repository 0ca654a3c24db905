"""Whatever the text: nothing is lost, nothing raises what nobody expects."""

import re
from contextlib import suppress

from documents import asking, chunks, cleaning, layout
from documents.asking import MalformedError
from documents.chunks import Sizes
from documents.layout import Line
from hypothesis import given, settings
from hypothesis import strategies as st

settings.register_profile("documents", max_examples=100, deadline=None, derandomize=True, database=None)
settings.load_profile("documents")

TEXT = st.text(alphabet=st.characters(), max_size=60)
WORDS = st.lists(st.from_regex(r"\A[a-z]{1,8}-?\Z") | st.sampled_from(["数据", "在文档", "。"]), max_size=8)


@given(text=TEXT)
def test_a_cleaned_line_stays_as_it_is(text: str) -> None:
    once = cleaning.line(text)
    assert cleaning.line(once) == once
    once.encode("utf-8")  # half a surrogate pair would raise


@given(lines=WORDS)
def test_joining_loses_nothing_but_hyphens_and_spaces(lines: list[str]) -> None:
    joined = cleaning.join(lines, cleaning.words(lines))
    assert re.sub("[- ]", "", joined) == re.sub("[- ]", "", "".join(lines))


@given(
    boxes=st.lists(
        st.tuples(
            st.integers(0, 500), st.integers(0, 700), st.integers(1, 300), st.sampled_from([8, 10, 14, 20])
        ),
        max_size=25,
    )
)
def test_every_line_is_read_once(boxes: list[tuple[int, int, int, int]]) -> None:
    lines = [
        Line(text=f"t{n}", x0=x, x1=x + width, top=top, bottom=top + size, size=size)
        for n, (x, top, width, size) in enumerate(boxes)
    ]
    read = [line.text for row in layout.ordered(lines) for line in row]
    assert sorted(read) == sorted(line.text for line in lines)
    texts = layout.texts(layout.ordered(lines))
    fonts = layout.Fonts.of(texts, larger=1.12)
    kept = [text for block in layout.blocks(texts, fonts) for line in block.lines for text in line.split()]
    assert sorted(kept) == sorted(read)


@given(text=st.text(max_size=300), size=st.integers(5, 60), overlap=st.integers(0, 4))
def test_chunks_of_any_text_keep_their_size(text: str, size: int, overlap: int) -> None:
    for chunk in chunks.cut(text, Sizes(size=size, overlap=overlap)):
        assert 0 < len(chunk.text) <= size


@given(
    reply=st.text(max_size=80) | st.builds(lambda text: '{"questions": ' + text + "}", st.text(max_size=40))
)
def test_a_reply_is_parsed_or_malformed(reply: str) -> None:
    with suppress(MalformedError):
        assert asking.parsed(reply)
