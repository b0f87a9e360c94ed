"""COCO metrics of a folder of pictures under one condition, picture by picture in a loop of your own.

`fl.sweep` does this for many conditions, and continues where it was stopped; a loop is for what a sweep does not do,
such as choosing the condition by the picture. Writes out/evaluate_folder.json.
"""

import argparse
import json
from pathlib import Path

import featlink as fl

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--dataset", default="starter", help="a folder in COCO's layout, or 'starter'")
parser.add_argument("--weights", default="starter", help="'starter', 'coco', or a file")
parser.add_argument("--condition", default="quantize(bits=4)")
parser.add_argument("--limit", type=int, default=4, help="how many images")
args = parser.parse_args()

model = fl.load(args.weights)
condition = fl.parse(args.condition)
images = list(fl.open_dataset(args.dataset).images.items())[: args.limit]

found, bits = {}, 0
for image_id, picture in images:
    image = fl.read_image(picture)
    signal = model.pyramid(image) if condition.domain == "feature" else image
    sent = fl.transmit(signal, condition, model=model, image_id=image_id, fidelity=False)
    found[image_id] = model.detect(sent)
    bits += sent.bits

metrics = fl.evaluate(args.dataset, found)
kilobytes = bits / 8000 / len(images)
print(f"{condition}: {len(images)} images, {kilobytes:.1f} kB each")
for name, value in metrics.bbox.items():
    mask = None if metrics.segm is None else metrics.segm[name]
    print(
        f"{name:>6}  box {value if value is None else f'{value:.3f}'}  mask {mask if mask is None else f'{mask:.3f}'}"
    )
results = {"condition": str(condition), "kilobytes": kilobytes, "bbox": metrics.bbox, "segm": metrics.segm}
Path("out").mkdir(exist_ok=True)
Path("out/evaluate_folder.json").write_text(json.dumps(results, indent=1))
print("written: out/evaluate_folder.json")
