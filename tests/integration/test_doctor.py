"""``launch doctor`` on this machine, whatever it is: quick, complete, silent about secrets."""

import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from launcher import host
from launcher.app import examination
from launcher.diagnosis.catalogue import CHECKS
from tests.integration.conftest import Launch

SECRET = "hf_" + "Zz9" * 12


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connections are taken and nothing is ever said, which is worse than no network."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_this_machine(launch: Launch) -> None:
    done = launch("doctor", "--json", "--recipe", "bge-m3-unified")
    result = json.loads(done.out)
    lines = {line["name"]: line for line in result["lines"]}
    assert list(lines) == list(CHECKS)
    failed = [name for name, line in lines.items() if line["status"] == "failed"]
    assert done.code == (72 if failed else 0), done.err
    assert result["target"] == host.facts().best_target()[0] or os.environ.get("LAUNCH_TARGET")
    assert lines["cpu"]["found"] != "unknown processor"
    assert lines["libraries"]["status"] == lines["memory"]["status"] == "ok"
    for line in lines.values():
        assert line["found"]
        assert line["status"] in ("ok", "skipped") or line["means"]


def test_it_is_quick_where_nobody_answers(launch: Launch, silent: str) -> None:
    def timed(**variables: str) -> tuple[float, dict[str, dict[str, str]]]:
        begin = time.monotonic()
        done = launch("doctor", "--json", "--target", "cuda", "--model", "BAAI/bge-m3", **variables)
        took = time.monotonic() - begin
        return took, {line["name"]: line for line in json.loads(done.out)["lines"]}

    base, _ = timed(HF_HUB_OFFLINE="1", UV_OFFLINE="1", LAUNCH_ENGINE="venv")
    took, lines = timed(
        DOCKER_HOST=f"tcp://{silent}",
        HF_ENDPOINT=f"http://{silent}",
        HF_HOME="/nonexistent/hub",
        HTTPS_PROXY=f"http://{silent}",
        UV_DEFAULT_INDEX=f"http://{silent}/simple",
        UV_FIND_LINKS=f"http://{silent}/links",
        NO_PROXY="",
        no_proxy="",
    )
    assert list(lines) == list(CHECKS)
    for name in ("engine", "network.hub", "network.packages"):
        assert lines[name]["status"] == "warning", lines[name]
    assert lines["network.hub"]["found"].endswith(("no answer in time", "no answer within 2 s"))
    # The deadline and no more, beside a run that asks nobody: other tests may have the cores, too.
    assert took - base < examination.PATIENCE + 1, f"{took:.1f} s beside {base:.1f} s"


def test_secrets_are_never_printed(launch: Launch) -> None:
    variables = {
        "HF_TOKEN": SECRET,
        "HF_ENDPOINT": f"https://me:{SECRET}@127.0.0.1:9",
        "HTTPS_PROXY": f"http://me:{SECRET}@127.0.0.1:9",
        "UV_DEFAULT_INDEX": f"https://me:{SECRET}@127.0.0.1:9/simple",
        "PIP_INDEX_URL": f"https://me:{SECRET}@127.0.0.1:9/simple",
    }
    for arguments in (["--json"], []):
        done = launch("--verbose", "doctor", "--model", "BAAI/bge-m3", *arguments, **variables)
        assert "network.hub" in done.out
        assert SECRET not in done.out
        assert SECRET not in done.err


@pytest.mark.parametrize("between", ["/", "#", "@", "?"])
def test_not_even_a_part_of_an_odd_password_is_printed(launch: Launch, between: str) -> None:
    first, second = SECRET[:6], SECRET[6:]
    address = f"http://me:{first}{between}{second}@127.0.0.1:9"
    done = launch("doctor", "--target", "cpu", HTTPS_PROXY=address, HF_ENDPOINT=address)
    for part in (first, second):
        assert part not in done.out
        assert part not in done.err


def test_a_real_engine(engine: Any, launch: Launch) -> None:
    done = launch("doctor", "--json", "--target", "cpu")
    lines = {line["name"]: line for line in json.loads(done.out)["lines"]}
    assert lines["engine"] == {
        "name": "engine",
        "status": "ok",
        "found": f"Docker Engine {engine.version()['Version']}",
        "means": "",
        "fix": "",
    }
    assert lines["engine.storage"]["found"].startswith(engine.info()["Driver"])
    assert lines["image"]["status"] in ("ok", "failed")
