"""Read settings from ``FEATLINK_*`` environment variables, and report invalid ones.

The defaults run all services on one machine.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from featlink.shared.errors import FeatlinkError
from featlink.shared.models.config import ModelConfig, Profile
from featlink.shared.service.access import is_loopback

if TYPE_CHECKING:
    from featlink.shared.models.protocol import SplitModel

PREFIX = "FEATLINK_"
NOT_OF_SERVICES = (
    *("BIND", "EDGE_PORT", "CHANNEL_PORT", "CLOUD_PORT", "PAGE_PORT", "DATA", "OUT"),  # of Compose's file
    *("FITTED", "REFUSED_EXIT"),
    "TOKEN",  # of clients
)
"""Variables that are no settings of a service, which passes over them."""
_OF_KUBERNETES = re.compile(r"\w*_(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP)\w*)?)")
_EVERY_ADDRESS = {"0.0.0.0", "::", "[::]", ""}
_ALIKE = 0.85
"""Ratio of :func:`difflib.get_close_matches` from which a name is taken for a slip of the pen."""


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


class ProxySettings(BaseSettings):
    """Settings of what a reverse proxy may show: a service, or the live page."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", env_ignore_empty=True, extra="ignore")

    proxies: str = Field("", description="reverse proxies whose X-Forwarded-* headers count: addresses or networks")

    @field_validator("proxies")
    @classmethod
    def _addresses(cls, proxies: str) -> str:
        for proxy in _listed(proxies):
            if proxy != "*":
                ipaddress.ip_network(proxy)
        return proxies

    @property
    def trusted_proxies(self) -> list[str]:
        """Addresses and networks of reverse proxies."""
        return _listed(self.proxies)


class ServiceSettings(ProxySettings):
    """Settings of every service."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(0, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    address: str = Field("", description="where people reach the service, for its log to say")
    otlp_endpoint: str = Field("", description="base URL of an OpenTelemetry collector that gets spans (OTLP, HTTP)")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    max_requests: int = Field(4, ge=1, description="requests in work at once")
    max_waiting: int = Field(128, ge=0, description="requests that upload or wait for their turn; more get 503")
    max_body_mb: int = Field(256, ge=1, description="largest request body in MiB")
    timeout_s: float = Field(300, gt=0, le=86400, description="how long a request may take until its answer begins")
    access: Literal["auto", "open"] = Field(
        "auto", description="'open': no token is asked for where none is set, whoever can reach the service"
    )
    tokens: str = Field(
        "", pattern=r"^\s*([0-9a-f]{64}\s*(,\s*|$))*$", description="SHA-256 digests of clients' tokens, with commas"
    )
    service_token: SecretStr | None = Field(None, min_length=16, description="token that the services share")
    hosts: str = Field("", description="further names the service answers to, with commas; * for any")
    tls_cert: Path | None = Field(None, description="certificate chain (PEM): serve HTTPS")
    tls_key: Path | None = Field(None, description="its private key (PEM)")
    tls_ca: Path | None = Field(
        None, description="certificates (PEM) to trust in the next service; default: public ones"
    )

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        if self.access == "auto" and not is_loopback(self.host) and not self.tokens.strip():
            raise ValueError(
                f"on {self.host}, set FEATLINK_TOKENS, or FEATLINK_ACCESS=open if whoever reaches it may use it"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("FEATLINK_TLS_CERT and FEATLINK_TLS_KEY go together")
        return self

    @property
    def client_tokens(self) -> list[str]:
        """Digests of clients' tokens."""
        return _listed(self.tokens)

    @property
    def other_hosts(self) -> list[str]:
        """Further names that the service answers to."""
        return _listed(self.hosts)

    @property
    def max_body(self) -> int:
        """The body limit in bytes."""
        return self.max_body_mb << 20

    @property
    def max_held(self) -> int:
        """Bytes of all bodies whose requests are not answered yet."""
        return self.max_requests * self.max_body


class ModelSettings(BaseSettings, ModelConfig):
    """Which network; edge and cloud must agree on model and weights."""

    model_config = SettingsConfigDict(env_prefix="FEATLINK_", env_ignore_empty=True, extra="ignore")

    @field_validator("profile")
    @classmethod
    def _possible_here(cls, profile: Profile) -> Profile:
        if profile == "bf16":
            from featlink.shared.models.fast.accelerate import refusal  # OpenVINO is slow to import

            if reason := refusal():
                raise ValueError(reason)
        return profile


def build_model(settings: ModelSettings, warm: Callable[[SplitModel], None], heads: bool = True) -> SplitModel:
    """Build a service's network, and send a picture through it.

    Args:
        settings: which network.
        warm: sends it, and raises what the network raises.
        heads: as in :func:`featlink.shared.models.registry.build`.

    Raises:
        FeatlinkError: it cannot be built; names the variables.
        RuntimeError: it fails on the picture.
    """
    from featlink.shared.models.registry import build, starting  # torch takes seconds to import: after /livez answers

    with naming(settings, *ModelSettings.model_fields):
        network = build(settings.but(), heads)
    with starting(network):
        warm(network)
    return network


def refused_exit() -> int:
    """The exit code of a program that refuses its settings: 1, or ``FEATLINK_REFUSED_EXIT``.

    Containers have 0 there, so that Docker, which restarts what fails, does not try the same settings for ever.
    """
    code = os.environ.get(f"{PREFIX}REFUSED_EXIT", "")
    return int(code) if code.isdecimal() else 1


def wrong_settings(error: ValidationError, given: Iterable[str] = ()) -> str:
    """What is wrong with settings, in one line that names the variables.

    Args:
        error: of a settings class.
        given: fields that did not come from the environment.
    """
    lines = []
    for item in error.errors():
        field = str(item["loc"][0]) if item["loc"] else ""
        name = field if field in given or not field else PREFIX + field.upper()
        within = ".".join(str(part) for part in item["loc"][1:])
        message = (within and f"{within}: ") + item["msg"].removeprefix("Value error, ")
        if str(item["input"]).startswith("tcp://"):
            message += f" (Kubernetes sets it for a Service of that name; {PREFIX}* needs enableServiceLinks: false)"
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(lines)


def slip(environment: Mapping[str, str], known: Iterable[str]) -> str | None:
    """The first variable that is nearly a setting's name and none, in a line; None if there is none.

    Args:
        environment: of the process.
        known: fields of settings classes.

    Example:
        >>> slip({"FEATLINK_WEIGHT": "coco"}, ["weights"])
        'FEATLINK_WEIGHT is no setting; did you mean FEATLINK_WEIGHTS?'
    """
    names = {field.upper() for field in known} | set(NOT_OF_SERVICES)
    for variable, value in sorted(environment.items()):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in names or not value or _OF_KUBERNETES.fullmatch(name):
            continue
        if alike := difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE):
            return f"{variable} is no setting; did you mean {PREFIX}{alike[0]}?"
    return None


def reachable(url: str, host: str = "127.0.0.1") -> str:
    """An address that can be opened, of one that a server was given: not "all addresses", nor a range of ports.

    Example:
        >>> reachable("http://0.0.0.0:8000"), reachable("http://edge:8001-8004/x")
        ('http://127.0.0.1:8000', 'http://edge:8001/x')
    """
    parts = urlsplit(re.sub(r"(:\d+)-\d+(?=/|$)", r"\1", url, count=1))
    if (parts.hostname or "") in _EVERY_ADDRESS:
        parts = parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}")
    return parts.geturl()


@contextlib.contextmanager
def naming(settings: BaseSettings, *fields: str) -> Iterator[None]:
    """Inside, an error that is due to settings is told with those of their variables that are set.

    Args:
        settings: of the service.
        fields: what is used inside.
    """
    try:
        yield
    except FeatlinkError as error:
        variables = [PREFIX + field.upper() for field in fields if field in settings.model_fields_set]
        error.args = (": ".join([*([", ".join(variables)] if variables else []), str(error)]),)
        raise
