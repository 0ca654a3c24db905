"""The demo's data set: what counts as a document, and what may never happen to the held-out part."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import demo, settings
from launcher.app import demo as flow
from launcher.app import images
from launcher.errors import BuildError, DataError, EngineError, FetchError, LaunchError
from launcher.progress import Silent

SOURCE = b'''
"""Read and write lanterns.

A lantern is a file that glows; this module opens, dims and closes every kind of it.
"""

class HTTPLantern:
    """A lantern that hangs on the network. It is opened once and then stays lit until someone closes it."""

    def read_all(self):
        """Return every photon.

        Photons that were lost on the way are replaced by darkness, in the order of their arrival.
        """

    def short(self):
        """Return one photon."""

    if True:
        async def dim_to2(self):
            """Dim the lantern slowly.

            The level falls by one step each second until it reaches what was asked for or zero.
            """
'''

# Words that share no three-word run by accident: every body is its own.
words = st.lists(st.integers(0, 10**6).map("w{}".format), min_size=8, max_size=20, unique=True)


def document(number: int, module: str = "m", body: str = "") -> demo.Document:
    """A document that resembles no other one."""
    own = " ".join(f"w{number}x{i}" for i in range(10))
    return demo.Document(
        module=module, name=f"{module} n{number}", summary=f"Do thing {number}.", body=body or own
    )


def test_documents_are_the_documented_objects_with_summary_and_body() -> None:
    found = list(demo.parse([("light.lantern", SOURCE)]))
    assert [d.query for d in found] == [
        "light lantern: Read and write lanterns.",
        "light lantern http lantern: A lantern that hangs on the network.",
        "light lantern http lantern read all: Return every photon.",
        "light lantern http lantern dim to 2: Dim the lantern slowly.",
    ]
    assert found[1].body == "It is opened once and then stays lit until someone closes it."
    assert all(d.module == "light.lantern" and d.summary not in d.body for d in found)


@pytest.mark.parametrize("source", [b"def broken(:", b"x = '\x00'", b"# coding: no-such-codec\n", b""])
def test_sources_that_do_not_parse_are_left_out(source: bytes) -> None:
    assert list(demo.parse([("broken", source)])) == []


def test_invalid_escapes_in_foreign_sources_are_not_reported(recwarn: pytest.WarningsRecorder) -> None:
    list(demo.parse([("old", rb"pattern = '\d'")]))
    assert not recwarn.list


def test_sources_come_sorted_and_without_tests_and_foreign_packages(tmp_path: Path) -> None:
    names = "b.py a/__init__.py a/c.py test/t.py a/tests/t.py site-packages/p.py idlelib/i.py a/data.txt"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(demo.sources(tmp_path)) == [("a", b"a/__init__.py"), ("a.c", b"a/c.py"), ("b", b"b.py")]


def test_near_duplicates_and_repeated_queries_are_left_out() -> None:
    text = "The quick brown fox jumps over the lazy dog near the river bank at dawn"
    kept = demo.distinct(
        [
            document(1, body=text),
            document(2, body=text.upper().replace(" ", "  ") + "!"),
            document(3, body=text.replace("dawn", "dusk")),
            document(1, body="Something else entirely that only shares the query of the first document"),
            document(4, body="A fox and a dog sleep at the river bank while the sun goes down"),
        ]
    )
    assert [d.summary for d in kept] == ["Do thing 1.", "Do thing 4."]


def test_half_of_the_negatives_are_from_the_same_module() -> None:
    documents = [document(i, module="ab"[i % 2]) for i in range(100)]
    module_of = {d.body: d.module for d in documents}
    for row in demo.build(documents, held_out=10, negatives=8, seed=1).train:
        own = module_of[row["pos"][0]]
        assert [module_of[text] for text in row["neg"]][:4] == [own] * 4


@pytest.mark.parametrize(("documents", "held_out", "negatives"), [(50, 10, 6), (17, 10, 7)])
def test_too_little_for_the_recipe_is_refused(documents: int, held_out: int, negatives: int) -> None:
    with pytest.raises(ValueError, match="negatives"):
        demo.build([document(i) for i in range(documents)], held_out=held_out, negatives=negatives, seed=1)


@given(
    bodies=st.lists(words, min_size=20, max_size=60, unique_by=tuple),
    modules=st.integers(1, 5),
    held_out=st.integers(1, 10),
    negatives=st.integers(7, 9),
    seed=st.integers(),
)
def test_no_leak_and_no_false_negative_whatever_the_documents(
    bodies: list[list[str]], modules: int, held_out: int, negatives: int, seed: int
) -> None:
    given_documents = [
        document(i, module=f"m{i % modules}", body=" ".join(body)) for i, body in enumerate(bodies)
    ]
    documents = demo.distinct(given_documents)
    if len(documents) <= held_out + negatives:
        return
    rows = demo.build(documents, held_out=held_out, negatives=negatives, seed=seed)
    assert rows == demo.build(documents, held_out=held_out, negatives=negatives, seed=seed)
    unseen = {row["pos"][0] for row in rows.dev}
    seen = {text for row in rows.train for text in [*row["pos"], *row["neg"]]}
    assert len(rows.dev) == len(unseen) == held_out
    assert not unseen & seen
    assert not {row["query"] for row in rows.dev} & {row["query"] for row in rows.train}
    assert {row["text"] for row in rows.corpus} == unseen | seen
    assert len({row["id"] for row in rows.corpus}) == len(rows.corpus) == len(documents)
    for row in rows.train:
        assert len(set(row["neg"])) == len(row["neg"]) == negatives
        assert not set(row["pos"]) & set(row["neg"])


def test_files_are_complete_and_the_same_every_time(tmp_path: Path) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    for module in ("first", "second"):
        functions = (
            f'def f{i}():\n    """Do {module} thing {i}.\n\n    '
            + " ".join(f"{module}{i}x{j}" for j in range(9))
            + '\n    """\n'
            for i in range(15)
        )
        (library / f"{module}.py").write_text("".join(functions))
    written = demo.write(tmp_path / "one", held_out=5, negatives=7, seed=3, root=library)
    again = demo.write(tmp_path / "two", held_out=5, negatives=7, seed=3, root=library)
    other = demo.write(tmp_path / "three", held_out=5, negatives=7, seed=4, root=library)
    assert (written.rows, written.held_out, written.passages) == (25, 5, 30)
    for path, expected in zip((written.train, written.dev, written.corpus), (25, 5, 30), strict=True):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(rows) == expected
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert again.passages == other.passages
    assert written.dev.read_bytes() != other.dev.read_bytes()
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [
        "corpus.jsonl",
        "dev.jsonl",
        "train.jsonl",
    ]


def test_a_library_without_documentation_is_named(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("x = 1\n")
    with pytest.raises(DataError, match="no demo data") as caught:
        demo.write(tmp_path / "out", root=tmp_path)
    assert str(tmp_path) in caught.value.problems[0]
    assert not (tmp_path / "out").exists()


def test_ids_follow_the_order_of_the_sources() -> None:
    rows = demo.build([document(i) for i in range(30)], held_out=5, negatives=7, seed=2)
    assert all(int(a["id"]) + 1 == int(b["id"]) for a, b in pairwise(rows.corpus))


class Told(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


class Docker:
    """An engine that answers, and fails the build with ``error`` if there is one."""

    def __init__(self, patch: pytest.MonkeyPatch, error: LaunchError | None) -> None:
        self.error = error
        patch.setattr(flow, "connect", lambda: self)
        patch.setattr(images, "build", self.build)

    def close(self) -> None:
        """Nothing is open."""

    def build(self, *_: object, **__: object) -> None:
        if self.error is not None:
            raise self.error


UNABLE = [
    BuildError("FROM base failed", why="#2 resolving\nERROR: no such host", hint="--base"),
    BuildError("docker buildx is missing"),
    EngineError("no container engine answers (fake)", why="its socket does not exist"),
]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UNABLE[0], "FROM base failed (ERROR: no such host)"),
        (UNABLE[1], "docker buildx is missing"),
        (UNABLE[2], "no container engine answers (fake)"),
    ],
)
def test_without_a_build_the_demo_says_why_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, error: LaunchError, said: str
) -> None:
    Docker(monkeypatch, error)
    told = Told()
    assert flow._engine(None, settings.load(), told) == "venv"
    assert told.said == [f"{said}: running without a container, from the same lock"]


@pytest.mark.parametrize("error", UNABLE)
def test_containers_that_were_asked_for_are_not_replaced(
    monkeypatch: pytest.MonkeyPatch, error: LaunchError
) -> None:
    Docker(monkeypatch, error)
    with pytest.raises(type(error), match=error.message.split(" (")[0]):
        flow._engine("docker", settings.load(), Told())


def test_files_that_neither_engine_has_stop_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    Docker(monkeypatch, FetchError("files are missing", ["torch"]))
    with pytest.raises(FetchError):
        flow._engine(None, settings.load(), Told())


def test_an_engine_that_builds_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    Docker(monkeypatch, None)
    assert flow._engine(None, settings.load(), Told()) == "docker"
    assert flow._engine("venv", settings.load(), Told()) == "venv"
