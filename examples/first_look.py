"""One picture through a codec, in the feature domain: bits, fidelity, and what is still detected.

Writes out/first_look.png: the picture with the detections before and after.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import featlink as fl

OUT = Path("out")
CONDITION = "vvenc(qp=40)"

model = fl.load("starter")
image_id, picture = next(iter(fl.open_dataset("starter").images.items()))
image = fl.read_image(picture)

clean = model.pyramid(image)
sent = fl.transmit(clean, CONDITION, image_id=image_id)
print(f"{sent.condition}: {sent.bits / 8000:.1f} kB, {sent.bpp:.2f} bpp, PSNR[F] {sent.fidelity.psnr:.1f} dB")
for name, level in sent.fidelity.levels.items():
    print(f"  {name}  PSNR {level.psnr:.1f} dB  SSIM {level.ssim:.3f}")

before, after = model.detect(clean), model.detect(sent.pyramid)
for what, found in (("before", before), ("after", after)):
    segm = fl.evaluate("starter", {image_id: found}).segm
    print(f"{what}: {len(found.above(0.5))} objects, mask AP {100 * segm['AP']:.1f}")

OUT.mkdir(exist_ok=True)
pair = np.concatenate([np.asarray(fl.draw(image, found)) for found in (before, after)], axis=1)
Image.fromarray(pair).save(OUT / "first_look.png")
print(f"written: {OUT / 'first_look.png'}")
