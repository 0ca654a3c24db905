"""launch fit with real parts: transformers' own counts of parameters, and a probe of a real step."""

import json
import subprocess
from pathlib import Path

import pytest

from launcher import paths, settings
from launcher.app import fit
from tests.integration.conftest import Launch

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "support" / "models.json"

STEP = (
    *("--target", "cpu", "--per-device-train-batch-size", 2, "--train-group-size", 2),
    *("--query-max-len", 16, "--passage-max-len", 64),
)

#: Models without memory: the meta device has shapes and no numbers.
COUNT = """
import json, sys, torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
kinds = {
    "backbone": AutoModel, "classifier": AutoModelForSequenceClassification, "causal": AutoModelForCausalLM
}
found = {}
for name, model in json.load(open(sys.argv[1])).items():
    fields = dict(model["config"])
    config = AutoConfig.for_model(fields.pop("model_type"), **fields, num_labels=1)
    with torch.device("meta"):
        found[name] = {
            kind: sum(p.numel() for p in kinds[kind].from_config(config).parameters())
            for kind in model["parameters"]
        }
print(json.dumps(found))
"""


@pytest.mark.environment
def test_parameters_are_those_that_transformers_makes(environment: Path) -> None:
    program = [str(environment / "bin" / "python"), "-W", "ignore", "-c", COUNT, str(MODELS)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=True)
    kept = {name: model["parameters"] for name, model in json.loads(MODELS.read_text()).items()}
    assert json.loads(done.stdout) == kept


@pytest.mark.environment
def test_a_probe_corrects_later_estimates(
    launch: Launch, workspace: Path, tiny_model: Path, on: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    asked = fit.Request(recipe="bge-m3-unified", target="cpu", model=str(tiny_model))
    kept = paths.cache() / "fit" / f"{fit.judge(asked, settings.load()).key}.json"
    kept.unlink(missing_ok=True)  # of an earlier time: the cache is the user's, the environment is in it
    request.addfinalizer(lambda: kept.unlink(missing_ok=True))
    words = ("fit", "bge-m3-unified", "--model", tiny_model, *STEP, "--json")
    before = json.loads(launch(*words).out)
    done = launch(*words, "--probe", *on)
    assert done.code == 0, done.err
    probed = json.loads(done.out)
    assert before["probe"] is None
    assert probed["probe"]["peak"] == pytest.approx(probed["bytes"], rel=0.01)
    # A tiny model is all process: two thirds and half more are far off for anything larger, see docs/fit.md.
    assert 0.6 < before["bytes"] / probed["bytes"] < 1.5
    again = json.loads(launch(*words).out)
    assert again["bytes"] == probed["bytes"]
    assert any("corrected by a probe" in note for note in again["notes"])
    assert not (workspace / "runs").exists()  # a probe leaves nothing but its figures
