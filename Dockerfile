# The MuJoCo twin on a CPU: docs/container.md.
#     docker build -t b1k-eval . && docker run --rm b1k-eval smoke
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1 libgl1-mesa-dri libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# With xvla it also runs checkpoints; PyPI's torch brings CUDA along, which is gigabytes.
ARG EXTRAS=report,server

COPY . /src
RUN pip install --no-cache-dir "/src[$EXTRAS]" && rm -rf /src

# Any user may write here, and caches where no home folder is.
RUN mkdir --mode=1777 /work
WORKDIR /work
ENV MUJOCO_GL=egl HOME=/tmp
USER 1000:1000

ENTRYPOINT ["b1k-eval"]
CMD ["--help"]
