# The image of all pipeline steps, of a search's trials and of TrainJobs.
#
#   docker build -f images/steps.Dockerfile --build-arg VERSION=... -t pigeonhole/steps-python .
#
# Production pins the base: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
# For CPU builds of PyTorch: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG BASE=python:3.11-slim-bookworm

# Only what pip needs, so that a change of code does not reinstall the dependencies. If the build context has a folder
# wheels/, it replaces the package index, and the build needs no network.
FROM scratch AS inputs
COPY pyproject.toml wheel[s] /

FROM ${BASE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# The environment itself has no pip: nothing is installed at run time.
RUN --mount=type=bind,from=inputs,target=/inputs \
    if ls /inputs/*.whl > /dev/null 2>&1; then printf '[global]\nno-index = true\nfind-links = /inputs\n' > /etc/pip.conf; fi && \
    python -m venv --without-pip /opt/pigeonhole
WORKDIR /src
# First the dependencies, as those of a package without code. Evaluation runs the classifier as it is served, so the
# steps need the predictor's packages, too.
RUN --mount=type=bind,from=inputs,target=/inputs \
    cp /inputs/pyproject.toml . && touch README.md && \
    pip --python /opt/pigeonhole/bin/python install '.[serve,rollout,train,pipelines,crawl,s3]'
COPY pyproject.toml README.md LICENSE ./
COPY predictor predictor
COPY components components
COPY pipelines pipelines
RUN --mount=type=bind,from=inputs,target=/inputs \
    pip --python /opt/pigeonhole/bin/python install --no-deps --force-reinstall .

# The software bill of materials: docker build --target sbom --output FOLDER ...
FROM build AS inventory
RUN --mount=type=bind,from=inputs,target=/inputs \
    python -m venv --without-pip /opt/cyclonedx && \
    pip --python /opt/cyclonedx/bin/python install 'cyclonedx-bom>=7,<8' && \
    /opt/cyclonedx/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.json /opt/pigeonhole/bin/python

FROM scratch AS sbom
COPY --from=inventory /sbom.json /

FROM ${BASE}
# Compile the standard library, too, since nothing can be compiled at run time on a read-only root file system.
RUN python -m compileall -q -x '/(test|tests|idlelib|lib2to3|dist-packages|site-packages)/' \
      "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" && \
    groupadd --gid 10001 pigeonhole && \
    useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin pigeonhole
COPY --from=build /opt/pigeonhole /opt/pigeonhole
ARG VERSION
ARG REVISION
# HF_HUB_OFFLINE is not set, since a run's parameters may name a model or data set of the Hugging Face Hub.
ENV PATH=/opt/pigeonhole/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 MLFLOW_DISABLE_TELEMETRY=true PIGEONHOLE_GIT_COMMIT="${REVISION}"
LABEL org.opencontainers.image.title="pigeonhole steps" \
      org.opencontainers.image.description="The steps that make, judge and roll out a text classifier." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /tmp
# Steps run their own command to completion, without a server to check.
HEALTHCHECK NONE
CMD ["pigeonhole", "--help"]
