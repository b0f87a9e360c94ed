"""One picture, one codec, both domains: what do the same bits buy?

Prints a table: kilobytes, PSNR of the features that the heads see, and the mask AP of this one picture.
"""

import featlink as fl

model = fl.load("starter")
image_id, picture = next(iter(fl.open_dataset("starter").images.items()))
image = fl.read_image(picture)
clean = model.pyramid(image)

print(f"{'condition':<32}{'kB':>8}{'PSNR[F]':>9}{'mask AP':>9}")
for quality in (10, 30, 60, 90):
    for signal, domain in ((clean, "feature"), (image, "image")):
        sent = fl.transmit(signal, f"{domain}: jpeg(quality={quality})", model=model, image_id=image_id, fidelity=False)
        received = model.pyramid(sent)  # of an image: its features, once it has arrived
        psnr = fl.compare(clean, received).psnr
        ap = fl.evaluate("starter", {image_id: model.detect(received)}).segm["AP"]
        print(f"{sent.condition!s:<32}{sent.bits / 8000:>8.1f}{psnr:>9.1f}{100 * ap:>9.1f}")
