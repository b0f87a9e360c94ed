"""A distortion of your own: salt-and-pepper noise, in ten lines, in both domains.

Once it is registered, conditions can name it: here, in `fl.sweep`, and by the entry-point group `featlink.steps` also
in the services and at the command line.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

import featlink as fl


@fl.register
class SaltAndPepper(fl.Distortion):
    """Set a share of the samples to black or white."""

    random: ClassVar[bool] = True
    strength: ClassVar[str | None] = "share"

    type: Literal["salt_and_pepper"] = "salt_and_pepper"
    share: float = Field(ge=0, le=1, description="of the samples that are lost")

    def apply(self, planes: fl.Planes, rng: np.random.Generator) -> fl.Planes:
        """In an image all three channels of a pixel are lost together."""
        shape = planes.samples.shape[1:] if planes.is_image else planes.samples.shape
        top = (1 << planes.bits) - 1
        noise = rng.choice(np.array([0, top], planes.samples.dtype), shape)
        return replace(planes, samples=np.where(rng.random(shape) < self.share, noise, planes.samples))


model = fl.load("starter")
image_id, picture = next(iter(fl.open_dataset("starter").images.items()))
image = fl.read_image(picture)
clean = model.pyramid(image)

for share in (0.001, 0.01, 0.1):
    for signal in (clean, image):
        sent = fl.transmit(signal, SaltAndPepper(share=share), model=model, image_id=image_id)
        ap = fl.evaluate("starter", {image_id: model.detect(sent)}).segm["AP"]
        print(f"{sent.condition}: PSNR {sent.fidelity.psnr:.1f} dB, mask AP {100 * ap:.1f}")
