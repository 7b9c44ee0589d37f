# Training on SageMaker, or anywhere that lays out /opt/ml. From the repository's root:
#
#   docker build -f containers/train.Dockerfile -t sightline-train .
#
# BASE         any Debian or Ubuntu with Python 3.11 to 3.13, venv included
# TORCH_INDEX  where PyTorch's wheels of another CUDA version, or for the CPU alone, come from; empty: pip's own index
# EXTRAS       of Sightline: aws (s3://), report (plots), track (TensorBoard, MLflow)
ARG BASE=python:3.12-slim

FROM ${BASE}
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY containers/constraints.txt /tmp/constraints.txt
RUN python3 -m venv /opt/sightline \
    && /opt/sightline/bin/pip install --constraint /tmp/constraints.txt ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch torchvision
# Up to here as in serve.Dockerfile: PyTorch is installed once for both.
ARG EXTRAS=aws,report,track
# A layer of its own, so that another version of Sightline leaves PyTorch's gigabytes where they are, here and in the registry.
COPY . /tmp/source
RUN /opt/sightline/bin/pip install --constraint /tmp/constraints.txt "/tmp/source[${EXTRAS}]" && rm -r /tmp/source
RUN ln -s /opt/sightline/bin/sightline-train /usr/local/bin/train \
    && ln -s /opt/sightline/bin/sightline /usr/local/bin/sightline
ENV PATH=/opt/sightline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
# As root: the platform's /opt/ml belongs to root, and a training writes there.
# Exec form: the entry point is process 1, gets SIGTERM, and passes it on.
ENTRYPOINT ["/usr/local/bin/train"]
