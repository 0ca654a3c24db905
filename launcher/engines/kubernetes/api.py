"""The cluster's API through the official client: its configuration, credentials and connections; plain JSON.

Answers that come again by themselves are asked for again by urllib3: 429 (after the time that it names), 500,
502, 503, 504, and connections that break. All that is made has a name of its own, so that asking twice makes
it once.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import ClusterError, EngineError, EngineGoneError

if TYPE_CHECKING:
    from kubernetes.client.api_client import ApiClient

#: Seconds to connect, and to wait for an answer.
_TIMES = (5.0, 30.0)

#: Seconds of silence after which a stream is opened anew: what lies between may have dropped it unseen.
_SILENCE = (5.0, 120.0)

_AGAIN = (429, 500, 502, 503, 504)

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Api:
    """Requests to one cluster.

    Args:
        context: of the kubeconfig; empty: its current one, or the cluster that the launcher runs in.
        tries: how often a request is made anew that the cluster could not answer.
        patient: a run is followed: a control plane that is being upgraded is away for some minutes.
    """

    def __init__(self, context: str = "", *, tries: int = 6, patient: bool = False) -> None:
        self._context, self._tries, self._patient = context, tries, patient
        self._client: ApiClient | None = None
        self.meanwhile = "nothing is known of the run"

    def connect(self) -> "ApiClient":
        """The client, with the credentials of now.

        Raises:
            EngineError: no client is installed, or nothing says where the cluster is.
        """
        if self._client is None:
            try:
                from kubernetes import config
                from kubernetes.client.api_client import ApiClient
                from kubernetes.client.configuration import Configuration
            except ImportError:
                raise EngineError(
                    "the official Kubernetes client is not installed",
                    why="it is an extra: few people need it",
                    hint="pip install 'finetune-launch[kubernetes]'",
                ) from None
            from urllib3.util import Retry

            found = Configuration()
            try:
                if self._inside():
                    config.load_incluster_config(client_configuration=found)
                else:
                    config.load_kube_config(context=self._context or None, client_configuration=found)
            except (config.ConfigException, OSError, ValueError, TypeError, KeyError) as error:
                raise EngineError(
                    "no Kubernetes cluster is configured" if not self._context else
                    f"the kubeconfig has no usable context {self._context!r}",
                    why=str(error).splitlines()[0] if str(error) else type(error).__name__,
                    hint="KUBECONFIG names the file, --k8s-context a context; kubectl config get-contexts",
                ) from None  # fmt: skip
            found.retries = Retry(
                total=2 * self._tries if self._patient else self._tries,
                connect=None if self._patient else min(3, self._tries),
                backoff_factor=0.3,
                backoff_max=30,
                status_forcelist=_AGAIN,
                allowed_methods=None,
                raise_on_status=False,
                retry_after_max=60,
            )
            self._client = ApiClient(found)
        return self._client

    def patient(self) -> "Api":
        """The same cluster, which may be away for some minutes."""
        made = Api(self._context, tries=self._tries, patient=True)
        made.meanwhile = self.meanwhile
        return made

    def _inside(self) -> bool:
        """The launcher runs in a pod, and nothing names another cluster."""
        named = self._context or os.environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser().exists()
        return not named and "KUBERNETES_SERVICE_HOST" in os.environ

    def address(self) -> str:
        """Where the cluster is."""
        return str(self.connect().configuration.host)

    def namespace(self) -> str:
        """The context's own namespace."""
        self.connect()
        from kubernetes import config

        if self._inside():
            with suppress(OSError):
                return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or "default"
            return "default"
        contexts, active = config.list_kube_config_contexts()
        named = [item for item in contexts if item["name"] == self._context]
        chosen = named[0] if named else active
        return str(chosen["context"].get("namespace") or "default")

    def call(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One request, and its answer.

        Raises:
            ClusterError: the cluster refused it.
            EngineGoneError: it does not answer.
        """
        response = self._opened(method, path, body, query or {}, _TIMES)
        with self._answering():
            text = response.data
        try:
            return dict(json.loads(text or b"{}"))
        except ValueError:
            raise EngineGoneError(
                f"what answers at {self.address()} is no Kubernetes; {self.meanwhile}",
                why=text[:200].decode(errors="replace"),
            ) from None

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """The lines of an answer that goes on; a break in it raises EngineGoneError, its end does not.

        Raises:
            ClusterError: the cluster refused it.
            EngineGoneError: the connection broke.
        """
        response = self._opened("GET", path, None, query, _SILENCE)
        rest = b""
        try:
            with self._answering():
                for block in response.stream(amt=None, decode_content=False):
                    *complete, rest = (rest + block).split(b"\n")
                    yield from complete
        finally:
            response.close()
            response.release_conn()
        if rest:
            yield rest

    def _opened(
        self, method: str, path: str, body: Any, query: Mapping[str, str], times: tuple[float, float]
    ) -> Any:
        """The answer, not yet read; credentials that have run out are renewed once."""
        response = self._asked(method, path, body, query, times)
        if response.status == 401:
            self._client = None  # a kubeconfig is read again, and its program asked for a new token
            response = self._asked(method, path, body, query, times)
        if 200 <= response.status <= 299:
            return response
        with self._answering():
            text = response.data
        if response.status == 401:
            raise EngineGoneError(
                f"the cluster does not accept the credentials (any more); {self.meanwhile}",
                why=_said(text)["message"],
                hint="log in to the cluster again, then: launch runs list",
            )
        if response.status in _AGAIN:
            raise EngineGoneError(
                f"the cluster cannot answer ({response.status}); {self.meanwhile}",
                why=_said(text)["message"],
                hint="when it answers again: launch runs list",
            )
        raise _refusal(method, path, response.status, text)

    def _asked(
        self, method: str, path: str, body: Any, query: Mapping[str, str], times: tuple[float, float]
    ) -> Any:
        client = self.connect()
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        with self._answering():
            request = client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
            )
            return client.call_api(*request, _request_timeout=times).response

    @contextmanager
    def _answering(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, ApiException, OSError) as error:
            raise EngineGoneError(
                f"the cluster does not answer; {self.meanwhile}",
                why=str(error),
                hint="when it answers again: launch runs list",
            ) from None


def _said(text: bytes) -> dict[str, Any]:
    """What the cluster says of a refusal; something else may answer in its place."""
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return {"reason": "", "details": {}, **found, "message": str(found.get("message", ""))}
    return {"message": text[:300].decode(errors="replace").strip(), "reason": "", "details": {}}


def _refusal(method: str, path: str, status: int, text: bytes) -> ClusterError:
    """A refusal by its kind: what is not allowed, which field is wrong, what is not there."""
    found = _said(text)
    details = found["details"] or {}
    what = f"{details.get('kind', '')} {details.get('name', '')}".strip() or path
    causes = "; ".join(
        f"{cause.get('field', '')}: {cause.get('message', '')}" for cause in details.get("causes") or []
    )
    message, why, hint = f"the cluster refused {method} {what} ({status})", found["message"], ""
    if status == 403 and "exceeded quota" in why:
        message, hint = "the namespace's quota does not allow it", "less of it, or ask who runs the cluster"
    elif status == 403:
        message = f"the cluster does not allow {method} {path}"
        hint = "docs/kubernetes.md has the role that is needed"
    elif status == 422:
        message = f"the cluster refused a field of {what}: {causes or why}"
        hint = "launch run … --dry-run prints what was asked for"
    elif status == 404:
        message = f"the cluster has no {what}"
    elif status == 400 and "unknown field" in why:
        message = f"the cluster's version of {what} lacks a field"
        hint = "Trainer 2.3 or newer for a TrainJob, or --k8s-kind job"
    return ClusterError(message, status=status, reason=str(found["reason"]), why=why, hint=hint)
