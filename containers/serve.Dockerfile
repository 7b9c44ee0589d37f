# Serving on SageMaker, or anywhere: what is in /opt/ml/model, over HTTP. From the repository's root:
#
#   docker build -f containers/serve.Dockerfile -t sightline-serve .
#   docker run -p 8080:8080 -v ./model:/opt/ml/model sightline-serve
#
# BASE         any Debian or Ubuntu with Python 3.11 to 3.13, venv included
# TORCH_INDEX  where PyTorch's wheels of another CUDA version, or for the CPU alone, come from; empty: pip's own index
ARG BASE=python:3.12-slim

FROM ${BASE}
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY containers/constraints.txt /tmp/constraints.txt
RUN python3 -m venv /opt/sightline \
    && /opt/sightline/bin/pip install --constraint /tmp/constraints.txt ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} torch torchvision
# A layer of its own, so that another version of Sightline leaves PyTorch's gigabytes where they are, here and in the registry.
COPY . /tmp/source
RUN /opt/sightline/bin/pip install --constraint /tmp/constraints.txt "/tmp/source[serve,aws]" && rm -r /tmp/source
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.capabilities.multi-models=true
RUN ln -s /opt/sightline/bin/sightline-serve /usr/local/bin/serve \
    && ln -s /opt/sightline/bin/sightline /usr/local/bin/sightline
ENV PATH=/opt/sightline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8080
# Nothing is written, so nobody's rights are enough.
USER 65534:65534
# Exec form: the server is process 1 and gets SIGTERM.
ENTRYPOINT ["/usr/local/bin/serve"]
