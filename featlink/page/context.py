"""What all pages of one process share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from featlink.page.catalogue import Control, StepForm, controls, step_forms
from featlink.page.pictures import Pictures
from featlink.page.play.work import Work
from featlink.page.services import Services
from featlink.page.settings import PageSettings


@dataclass(frozen=True)
class Catalogue:
    """What the channel offers.

    Attributes:
        steps: forms by name.
        options: of a condition.
        link: the link's settings.
        named: conditions by name.
    """

    steps: dict[str, StepForm]
    options: tuple[Control, ...]
    link: tuple[Control, ...]
    named: dict[str, str]


@dataclass
class Context:
    """Shared by every visitor.

    Attributes:
        settings: of the page.
        services: the deployment.
        uploads: pictures that visitors sent.
        drawn: pictures that were drawn for them.
        work: of the playground.
    """

    settings: PageSettings
    services: Services
    uploads: Pictures = field(default_factory=lambda: Pictures(256 << 20))
    drawn: Pictures = field(default_factory=lambda: Pictures(128 << 20))
    planes: Pictures = field(default_factory=lambda: Pictures(256 << 20))
    work: Work = field(init=False)
    _catalogue: Catalogue | None = None

    def __post_init__(self) -> None:
        self.work = Work(self.services, self.drawn, self.planes)

    async def catalogue(self) -> Catalogue:
        """What the channel offers, asked once while the same deployment runs.

        Raises:
            ServiceError: it does not answer.
        """
        if self._catalogue is None:
            offered: dict[str, Any] = await self.services.get("channel", "/v1/conditions")
            link = (await self.services.get("channel", "/openapi.json"))["components"]["schemas"]["Link"]
            self._catalogue = Catalogue(
                step_forms(offered["schema"]),
                controls(offered["schema"], leave_out=("domain", "steps", "ranges")),
                controls(link, leave_out=("wait",)),
                dict(offered["named"]),
            )
        return self._catalogue

    def forget(self) -> None:
        """Ask again: another deployment may have taken the place of the one that stopped."""
        self._catalogue = None
        self.work.forget()
