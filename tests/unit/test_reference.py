"""launcher.image.reference: names of images in registries, and what is no such name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import UsageError
from launcher.image import reference
from launcher.image.reference import Reference

DIGEST = f"sha256:{'0123456789abcdef' * 4}"

_parts = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?", fullmatch=True)
_hosts = st.sampled_from(
    ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "registry.example.org"]
)


@given(
    host=_hosts,
    path=st.lists(_parts, min_size=1, max_size=4),
    tag=st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
    digest=st.sampled_from(["", DIGEST]),
)
def test_what_is_taken_apart_is_put_together_again(host: str, path: list[str], tag: str, digest: str) -> None:
    made = Reference(host=host, repository="/".join(path), tag=tag, digest=digest)
    assert reference.parse(str(made)) == made
    assert made.asked == (digest or tag or "latest")
    assert reference.parse(str(made.pinned(DIGEST))) == made.pinned(DIGEST)


@given(st.text(max_size=60))
def test_other_texts_are_refused_or_read_as_they_are(text: str) -> None:
    try:
        found = reference.parse(text)
    except UsageError:
        return
    assert str(found) == text


@given(st.text(alphabet="abc123./:", max_size=30), st.sampled_from(["{0}", "{0}/team/x", "{0}:5000/x:cpu"]))
def test_credentials_are_never_repeated(host: str, form: str) -> None:
    text = f"user:hidden-word@{form.format(host)}"
    for read in (reference.parse, lambda place: reference.below(place, "finetune:cpu")):
        with pytest.raises(UsageError) as caught:
            read(text)
        assert "hidden-word" not in f"{caught.value} {caught.value.why} {caught.value.hint}"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("registry.example.org/team", "registry.example.org/team/finetune:cpu-0123"),
        ("registry.example.org/team/", "registry.example.org/team/finetune:cpu-0123"),
        ("localhost:5000", "localhost:5000/finetune:cpu-0123"),
        ("localhost", "localhost/finetune:cpu-0123"),
        ("[::1]:5000/a/b", "[::1]:5000/a/b/finetune:cpu-0123"),
        ("docker.io/somebody", "docker.io/somebody/finetune:cpu-0123"),
    ],
)
def test_where_an_image_goes(place: str, name: str) -> None:
    assert str(reference.below(place, "finetune:cpu-0123")) == name


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("team", "names no registry"),
        ("https://registry.example.org/team", "scheme"),
        ("Registry.example.org/Team", "lower-case"),
        ("registry.example.org//team", "its form"),
        ("registry.example.org/team:tag", "its form"),
        ("", "names no registry"),
        ("-registry.example.org", "its form"),
        ("[::::]:5000/x", "no IPv6 address"),
    ],
)
def test_what_is_no_place_says_why(place: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        reference.below(place, "finetune:cpu-0123")
    assert why in caught.value.why


def test_brackets_hold_an_address() -> None:
    with pytest.raises(UsageError) as caught:
        reference.parse("[::::]:5000/x:y")
    assert "no IPv6 address" in caught.value.why


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *((each, True) for each in ("localhost", "localhost:5000", "127.8.9.1:80", "[::1]:5000", "[::1]")),
        *(
            (each, False)
            for each in ("registry.example.org", "10.0.0.1:5000", "localhost.example.org", "[fe80::1]:5")
        ),
    ],
)
def test_this_machine_is_known(host: str, here: bool) -> None:
    assert reference.is_loopback(host) is here


def test_docker_hub_is_asked_where_it_answers() -> None:
    assert reference.parse("docker.io/library/debian:12").address == "registry-1.docker.io"
