"""The network by the user's own settings: what is set, and who answers. No credential is ever in a line."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from launcher.diagnosis.facts import Answer, NetworkSettings, Token
from launcher.diagnosis.lines import Line, failed, ok, skipped, warning
from launcher.settings import indexes

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_TRUE = ("1", "ON", "YES", "TRUE")
_SCHEMES = ("http", "https", "socks4", "socks5", "socks5h")

#: Sources: huggingface_hub's documentation, "Environment variables"; uv's, "Environment variables".
_HUB_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

_CREDENTIALS = re.compile(r"(?<=//)[^\s]*@")


def masked(text: str) -> str:
    """A text whose addresses have lost user name and password."""
    return _CREDENTIALS.sub("", text)


def settings(environment: Mapping[str, str]) -> NetworkSettings:
    """What variables say about the network.

    Args:
        environment: the process's. Files that they name are looked for, and not read.
    """
    shown, broken = [], []
    for name in _PROXIES:
        found = next((each for each in (name, name.lower()) if environment.get(each)), None)
        if found:
            problem = _proxy_problem(environment[found])
            if problem:
                broken.append((found, problem))
            else:
                shown.append(f"{found}={_place(environment[found])}")
    for name in _CERTIFICATES:
        if environment.get(name):
            if _exists(environment[name]):
                shown.append(f"{name}={environment[name]}")
            else:
                broken.append((name, f"{environment[name]} is not there"))
    if endpoint := environment.get("HF_ENDPOINT"):
        if problem := _endpoint_problem(endpoint):
            broken.append(("HF_ENDPOINT", problem))
        else:
            shown.append(f"HF_ENDPOINT={_place(endpoint)}")
    shown += [f"{what} of {origin}" for what, origin in origins(environment).items()]
    hub = next((name for name in _HUB_OFFLINE if environment.get(name, "").upper() in _TRUE), "")
    packages = "UV_OFFLINE" if environment.get("UV_OFFLINE", "").upper() in _TRUE else ""
    shown += [f"{name}={environment[name]}" for name in (hub, packages) if name]
    return NetworkSettings(
        shown=tuple(shown), broken=tuple(broken), hub_offline=hub, packages_offline=packages
    )


def origins(environment: Mapping[str, str]) -> dict[str, str]:
    """Which file or variable of pip's or uv's says where packages are; the place is the user's affair."""
    found = indexes(environment)
    named = {"the package index": found.index_url.origin, "find-links": found.find_links.origin}
    return {what: origin for what, origin in named.items() if origin != "default"}


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return False


def _proxy_problem(text: str) -> str:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        return "" if parts.scheme in _SCHEMES and parts.hostname and parts.port != 0 else "it is no address"
    except ValueError:
        return "it is no address"


def _endpoint_problem(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        return "it does not begin with https://"
    return _proxy_problem(text)


def _place(text: str) -> str:
    """Scheme, host and port of an address: no user, no password, no path, no query."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


#: What an HTTP library says, and what that means; the first that fits. OpenSSL's, glibc's and httpx's texts.
_REASONS = (
    (r"certificate|CERTIFICATE_VERIFY|SSL|TLS", "its certificate is not trusted here, or TLS is intercepted"),
    (r"407|[Pp]roxy", "the proxy refuses, or does not answer"),
    (r"name resolution|Name or service|nodename|getaddrinfo|dns error", "its name does not resolve"),
    (r"refused", "the connection was refused"),
    (r"unreachable|No route", "there is no route to it"),
    (r"timed? ?out|Timeout|did not finish", "no answer in time"),
)


def why(text: str) -> str:
    """What an error of an HTTP library means, in a few words.

    What no pattern fits is not repeated: libraries print parts of addresses, and those may hold a password.
    """
    for pattern, meaning in _REASONS:
        if re.search(pattern, text):
            return meaning
    kind = re.match(r"[A-Za-z_.]{1,60}(?=:)", text.strip())
    return f"no answer ({kind.group()})" if kind else "no answer"


def settings_line(facts: NetworkSettings) -> Line:
    """The settings in effect."""
    if facts.broken:
        found = "; ".join(f"{name}: {problem}" for name, problem in facts.broken)
        return failed("network.settings", found, variable=", ".join(name for name, _ in facts.broken))
    return ok("network.settings", ", ".join(facts.shown) or "none: a direct connection")


def reach(name: str, answers: tuple[Answer, ...], *, not_asked: str = "") -> Line:
    """Whether all of some servers answer.

    Args:
        name: of the check.
        answers: theirs.
        not_asked: why nobody was asked; empty: they were.
    """
    if not_asked or not answers:
        return skipped(name, not_asked or "there is nobody to ask")
    lost = [each for each in answers if not each.reached]
    if lost:
        return warning(name, "; ".join(f"{each.host}: {each.why}" for each in lost))
    return ok(name, "; ".join(f"{each.host} answers in {each.seconds:.1f} s" for each in answers))


#: Tokens of users and of organisations begin like this; their length has grown before.
_TOKEN = re.compile(r"(hf|api_org)_[A-Za-z0-9]{30,}")


def token(text: str, origin: str) -> Token:
    """What may be known of a token: where it comes from and whether it has the form of one."""
    return Token(origin=origin, well_formed=_TOKEN.fullmatch(text.strip()) is not None)
