# Serving without PyTorch: bundles that hold model.onnx, through ONNX Runtime. From the repository's root:
#
#   docker build -f containers/serve-onnx.Dockerfile -t sightline-serve-onnx .
#
# BASE     any Debian or Ubuntu with Python 3.11 to 3.13, venv included
# RUNTIME  what runs the graph
ARG BASE=python:3.12-slim

FROM ${BASE}
ARG RUNTIME=onnxruntime
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY containers/constraints.txt /tmp/constraints.txt
RUN python3 -m venv /opt/sightline \
    && /opt/sightline/bin/pip install --constraint /tmp/constraints.txt \
        numpy pillow pyyaml typer rich jinja2 msgspec faster-coco-eval starlette uvicorn boto3 "${RUNTIME}"
# Without its dependencies: torch is one of them, and nothing here imports it.
COPY . /tmp/source
RUN /opt/sightline/bin/pip install --no-deps /tmp/source && rm -r /tmp/source
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.capabilities.multi-models=true
RUN ln -s /opt/sightline/bin/sightline-serve /usr/local/bin/serve \
    && ln -s /opt/sightline/bin/sightline /usr/local/bin/sightline
ENV PATH=/opt/sightline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
EXPOSE 8080
# Nothing is written, so nobody's rights are enough.
USER 65534:65534
# Exec form: the server is process 1 and gets SIGTERM.
ENTRYPOINT ["/usr/local/bin/serve"]
