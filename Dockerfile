# Targets: `api` (the service without the compute side) and `worker` (everything).
#   docker build --target api -t cellgraft-api .
#   docker build --target worker -t cellgraft-worker .
#   docker build --target worker --build-arg TORCH_INDEX= -t cellgraft-worker:cuda .

FROM python:3.11.14-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/cellgraft/bin:$PATH

# What Cellgraft needs comes before Cellgraft itself: a change of the code leaves these layers as
# they are.
FROM python AS build-api
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/cellgraft \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > needs.txt \
    && pip install -c constraints.txt -r needs.txt

FROM build-api AS build-worker
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Torch first and from its own index, without dependencies: those come from the plain registry.
# An empty one is passed over by pip, which then takes the CUDA build from where it takes all else.
RUN PIP_INDEX_URL="$TORCH_INDEX" pip install --no-deps "$(grep -E '^torch==' constraints.txt)" \
    && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['worker'], sep='\n')" > needs.txt \
    && pip install -c constraints.txt -r needs.txt

FROM python AS build-cellgraft
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models_store models_store
COPY app app
COPY worker worker
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python AS runtime
RUN groupadd --gid 10001 cellgraft \
    && useradd --uid 10001 --gid cellgraft --no-create-home --shell /usr/sbin/nologin cellgraft \
    && install --directory --owner=cellgraft --group=cellgraft /data
ENV CELLGRAFT_DATA_DIR=/data \
    CELLGRAFT_HOST=0.0.0.0 \
    CELLGRAFT_PORT=8000
WORKDIR /data
VOLUME /data

FROM runtime AS api
COPY --from=build-api /opt/cellgraft /opt/cellgraft
RUN --mount=type=bind,from=build-cellgraft,source=/wheels,target=/wheels \
    pip install --no-deps /wheels/*.whl
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['CELLGRAFT_PORT']}/healthz\", timeout=4)"]
CMD ["cellgraft", "api"]

FROM runtime AS worker
# numba keeps compiled code beside its sources by default, where this user may not write.
ENV NUMBA_CACHE_DIR=/tmp/numba \
    MPLCONFIGDIR=/tmp/matplotlib
COPY --from=build-worker /opt/cellgraft /opt/cellgraft
RUN --mount=type=bind,from=build-cellgraft,source=/wheels,target=/wheels \
    pip install --no-deps /wheels/*.whl
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-m", "app.presence"]
CMD ["cellgraft", "worker"]
