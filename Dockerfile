# Four images: `detector` runs the edge and the cloud; `channel` the channel, which needs none of the detector's packages;
# `page` the live page, on the channel's layers; `bench`, on the detector's, is the command line for sweeps and reports.
# Every dependency comes as a wheel, so no stage needs a compiler.

FROM python:3.11-slim-bookworm AS service
# New volumes take over the owner and mode of these; `bench` may be any user, and shares the weights.
RUN useradd --uid 1000 --no-create-home featlink \
    && install --directory --owner featlink --group featlink /runs /state \
    && install --directory --mode 1777 /cache /weights
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# A pip that knows dependency groups.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install -c /constraints.txt pip
# Without the volume at /cache, or where it is another user's, Featlink takes a private folder in /tmp.
ENV FEATLINK_HOST=0.0.0.0 \
    FEATLINK_PORT=8000 \
    FEATLINK_DATABASE_URL=/runs/featlink-runs.sqlite \
    FEATLINK_FITTED=/weights/fitted \
    FEATLINK_REFUSED_EXIT=0 \
    HOME=/tmp \
    TORCH_HOME=/weights \
    NUMBA_CACHE_DIR=/cache/numba \
    XDG_CACHE_HOME=/cache \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TRIM_THRESHOLD_=67108864
EXPOSE 8000
# Until the start period is over, failures do not count: a service may be loading its model, or downloading it.
# Plain HTTP, so that no proxy of the environment is asked.
HEALTHCHECK --interval=10s --timeout=10s --start-period=10m --retries=3 CMD ["python", "-c", \
    "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['FEATLINK_PORT']), timeout=9); \
     c.request('GET', '/readyz', headers={'authorization': 'Bearer ' + os.environ.get('FEATLINK_SERVICE_TOKEN', '')}); \
     raise SystemExit(c.getresponse().status != 200)"]


FROM service AS wheel
WORKDIR /featlink
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheel .


# torch's requirements apart from the others: its layer, most of the image, is rebuilt only when they change.
FROM service AS requirements
COPY constraints.txt .
RUN grep -E '^torch(vision)?==' constraints.txt > torch.txt


FROM service AS channel-dependencies
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    pip install -c /constraints.txt --group /pyproject.toml:channel --group /pyproject.toml:telemetry


FROM service AS detector-dependencies
# A further package index, for builds of torch without CUDA; they are preferred where it has them.
ARG TORCH_INDEX_URL=""
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=requirements,source=/torch.txt,target=/torch.txt \
    pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r /torch.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    pip install -c /constraints.txt --group /pyproject.toml:detector --group /pyproject.toml:telemetry


FROM channel-dependencies AS channel
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER featlink
CMD ["python", "-m", "featlink.channel"]


FROM detector-dependencies AS detector
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER featlink
CMD ["python", "-m", "featlink.edge"]


FROM detector-dependencies AS bench-dependencies
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    pip install -c /constraints.txt --group /pyproject.toml:bench


FROM bench-dependencies AS bench
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER featlink
WORKDIR /sweeps
HEALTHCHECK NONE
ENTRYPOINT ["featlink"]
CMD ["--help"]


FROM channel-dependencies AS page-dependencies
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    pip install -c /constraints.txt --group /pyproject.toml:page


FROM page-dependencies AS page
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER featlink
WORKDIR /tmp
CMD ["python", "-m", "featlink.page"]
