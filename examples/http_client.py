"""The same over HTTP: a run at the cloud collects detections, and gives COCO's metrics at any time.

Give --edge and --cloud of a deployment that runs (`featlink up` starts one); without, it starts the three services here
and stops them at the end.
"""

import argparse
import contextlib
import tempfile

import featlink as fl
from featlink.client import Client
from featlink.launcher import Stack, free_ports

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--edge", help="e.g. http://127.0.0.1:8001")
parser.add_argument("--cloud", help="e.g. http://127.0.0.1:8003")
parser.add_argument("--condition", default="feature: quantize(bits=4)")
parser.add_argument("--limit", type=int, default=2, help="how many images")
args = parser.parse_args()

condition = fl.parse(args.condition)
data = fl.open_dataset("starter")
with contextlib.ExitStack() as stack:
    edge, cloud = args.edge, args.cloud
    if edge is None or cloud is None:
        ports = free_ports()
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        settings = {"weights": "starter", "database_url": f"sqlite:///{folder}/runs.sqlite"}
        services = stack.enter_context(Stack(ports, settings, log=lambda service, line: None))
        services.wait_ready()
        edge, cloud = ports.edge_url, ports.cloud_url
    client = stack.enter_context(Client(edge, cloud))

    client.put_dataset("starter", data.annotations)
    run = client.create_run("starter", str(condition), condition.domain, name="example")
    for image_id, picture in list(data.images.items())[: args.limit]:
        result = client.infer(picture.read_bytes(), condition=str(condition), image_id=image_id, run=run)
        psnr = result.fidelity["psnr_f"]  # None where nothing was changed
        quality = "" if psnr is None else f", PSNR[F] {psnr:.1f} dB"
        print(f"image {image_id}: {len(result.detections)} detections, {(result.bits or 0) / 8000:.1f} kB{quality}")
    metrics = client.metrics(run)
    print(f"{metrics['run']['done']} images, mask AP {100 * metrics['segm']['AP']:.1f}")
