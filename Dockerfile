# One image for edge, channel and cloud; the command says which one a container runs.
# Every dependency comes as a wheel, so no stage needs a compiler.

# torch's requirements apart from the others: its layer, most of the image, is rebuilt only when they change.
FROM python:3.11-slim-bookworm AS requirements
WORKDIR /requirements
COPY constraints.txt pyproject.toml ./
RUN grep -E '^torch(vision)?==' constraints.txt > torch.txt \
    && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > all.txt


FROM python:3.11-slim-bookworm AS dependencies
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# A further package index, for builds of torch without CUDA; they are preferred where it has them.
ARG TORCH_INDEX_URL=""
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=requirements,source=/requirements/torch.txt,target=/torch.txt \
    pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r /torch.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    pip install -c /requirements/constraints.txt -r /requirements/all.txt


FROM dependencies AS wheel
WORKDIR /featlink
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheel .


FROM dependencies
RUN useradd --uid 1000 --no-create-home featlink \
    && install --directory --owner featlink --group featlink /runs /weights
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER featlink
ENV FEATLINK_HOST=0.0.0.0 \
    FEATLINK_PORT=8000 \
    FEATLINK_DATABASE_URL=sqlite:////runs/featlink-runs.sqlite \
    TORCH_HOME=/weights \
    NUMBA_CACHE_DIR=/tmp/numba
EXPOSE 8000
# Until the start period is over, failures do not count: a service may be loading its model, or downloading it.
HEALTHCHECK --interval=10s --timeout=10s --start-period=10m --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['FEATLINK_PORT'] + '/readyz')"]
CMD ["python", "-m", "edge"]
