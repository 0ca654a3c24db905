"""What the fake cluster holds to: the official schemas, the documented role, a test's faults."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kubeflow_trainer_api import models

Manifest = dict[str, Any]

#: The version whose schemas are asked.
VERSION = "1.37"


@dataclass
class Fault:
    """What goes wrong with requests that match.

    Attributes:
        method, path: which ones; the path is searched for.
        status: of the answer; 0: none comes.
        times: how often.
        done: the request is carried out before.
        headers, message: of the answer.
    """

    method: str
    path: str
    status: int
    times: int = 1
    done: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "a fault of the test"
    details: dict[str, Any] = field(default_factory=dict)


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, reason: str, message: str, details: Manifest | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": status,
            "reason": reason,
            "message": message,
            "details": details or {},
        }


def role() -> set[tuple[str, str, str]]:
    """What the documentation says that a user needs: group, resource and verb."""
    page = Path(__file__).parents[2] / "docs" / "kubernetes.md"
    (text,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    found, binding = yaml.safe_load_all(text)
    for manifest in (found, binding):
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    return {
        (group, resource, verb)
        for rule in found["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def validate(manifest: Manifest) -> None:
    """What the schemas do not know is a 400, as with fieldValidation=Strict."""
    try:
        if manifest["kind"] == "TrainJob":
            read = models.TrainerV1alpha1TrainJob.from_dict(manifest)
            if read is None or read.to_dict() != manifest:
                raise ValueError("unknown field")
        else:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
    except (kubernetes_validate.ValidationError, ValueError) as error:
        raise RefusedError(400, "BadRequest", f"strict decoding error: {error}") from None
