"""AP and PSNR against bits, features beside pixels, over the QP of a video codec.

Sweeps a few pictures of a data set and writes out/qp_sweep.html, which any browser shows. The sweep is kept in
out/qp_sweep: run it again with a larger --limit, and only the new images are computed.
"""

import argparse
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

import featlink as fl

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--dataset", default="starter", help="a folder in COCO's layout, or 'starter'")
parser.add_argument("--weights", default="starter", help="'starter', 'coco', or a file")
parser.add_argument("--limit", type=int, default=2, help="how many images")
parser.add_argument("--codec", default="hevc", help="a step with a parameter qp: hevc or vvenc")
parser.add_argument("--out", type=Path, default=Path("out/qp_sweep"), help="folder of the sweep")
args = parser.parse_args()

DOMAINS = ("feature", "image")
conditions = [f"{domain}: {args.codec}(qp={qp})" for domain in DOMAINS for qp in (27, 37, 47)]
rows = fl.sweep(args.dataset, conditions, limit=args.limit, weights=args.weights, out=args.out)

figure = make_subplots(rows=1, cols=2, subplot_titles=("mask AP", "PSNR[F], dB"))
for domain in DOMAINS:
    curve = sorted((row for row in rows if row["id"].startswith(f"{domain}:")), key=lambda row: row["bits_per_image"])
    kilobytes = [row["bits_per_image"] / 8000 for row in curve]
    for column, metric in enumerate(("segm_AP", "psnr_f"), start=1):
        values = [row[metric] for row in curve]
        figure.add_trace(go.Scatter(x=kilobytes, y=values, name=domain, showlegend=column == 1), row=1, col=column)
figure.update_xaxes(type="log", title_text="kB per image")
page = args.out.with_suffix(".html")
figure.write_html(page)

for row in rows:
    print(f"{row['id']:<28}{row['bits_per_image'] / 8000:>10.1f} kB{100 * row['segm_AP']:>7.1f} AP")
print(f"written: {page}")
