"""Persist the link and the default condition over a restart of the channel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from featlink.channel.link import Link
from featlink.shared.conditions import language, registry
from featlink.shared.conditions.language import Condition
from featlink.shared.errors import ConditionError, StorageError
from featlink.shared.files import swap

log = structlog.get_logger()


class PersistedState:
    """A link and a default condition, in a file if there is one.

    What was set holds until the settings change: whoever changes those wants them to hold.

    Args:
        path: the file; None persists nothing.
        link: of the settings.
        condition: of the settings.
    """

    def __init__(self, path: Path | None, link: Link, condition: Condition) -> None:
        self._path = path
        self._configured = (link, condition)
        self.link = link
        self.condition = condition
        if path is not None and path.exists():
            self._load(path)

    def set_link(self, link: Link) -> None:
        """Change the link.

        Raises:
            StorageError: it cannot be persisted, and is not changed.
        """
        self._write(link, self.condition)
        self.link = link

    def set_condition(self, condition: Condition) -> None:
        """Change the default condition.

        Raises:
            StorageError: it cannot be persisted, and is not changed.
        """
        self._write(self.link, condition)
        self.condition = condition

    def _load(self, path: Path) -> None:
        try:
            content = json.loads(path.read_bytes())
            if _from_dict(content["configured"]) != self._configured:
                return
            link, condition = _from_dict(content)
            registry.chain(condition)
        except (OSError, ValueError, KeyError, TypeError, ValidationError, ConditionError) as error:
            log.warning("kept link and condition are unreadable", path=str(path), reason=str(error).splitlines()[0])
            return
        self.link, self.condition = link, condition

    def _write(self, link: Link, condition: Condition) -> None:
        if self._path is None:
            return
        content = json.dumps({"configured": _to_dict(*self._configured), **_to_dict(link, condition)})
        try:
            swap(self._path, content.encode())
        except OSError as error:
            raise StorageError(f"cannot keep it in {self._path}: {error.strerror}") from None


def _from_dict(content: Any) -> tuple[Link, Condition]:
    return Link.model_validate(content["link"]), language.from_fields(content["condition"])


def _to_dict(link: Link, condition: Condition) -> dict[str, Any]:
    return {"link": link.model_dump(mode="json"), "condition": condition.model_dump(mode="json")}
