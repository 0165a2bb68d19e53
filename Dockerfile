# SSDH with Caffe for NVIDIA GPUs, for Docker and buildah: `make image`, or `docker build -t ssdh .`
#
#   IMAGE_BASE   Debian 12, by its tag, or by a digest: debian@sha256:...
#   CUDA_ARCHS   compute capabilities that get machine code; the last one's PTX serves newer GPUs
#   USE_NCCL     training on several GPUs (DEVICE=gpu:0,1)
#   USE_CUDNN    cuDNN 8.9
#   UID, GID     of the user inside, to whom files in mounted folders belong; `docker run --user` names
#                another
#
# Layers stand in the order of how seldom they change: Debian's packages, the Python packages, NCCL and
# cuDNN, Caffe, this repository. A change of the sources repeats only the last one.

ARG IMAGE_BASE=debian:bookworm-slim
ARG CUDA_ARCHS="60 61 70 75 80 86 89 90"
ARG USE_NCCL=1
ARG USE_CUDNN=0
ARG UID=1000
ARG GID=1000


FROM ${IMAGE_BASE} AS debian
# CUDA is in the components contrib and non-free of the mirror that the base image names.
RUN find /etc/apt -name '*.sources' -exec sed -i '/^Components:/ s/$/ contrib non-free/' {} + \
    && find /etc/apt -name '*.list' -exec sed -i '/^deb / s/$/ contrib non-free/' {} +


FROM debian AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends nvidia-cuda-toolkit g++-11 \
    && rm -rf /var/lib/apt/lists/*
COPY tools/setup/build_packages.txt /ssdh/tools/setup/
RUN apt-get update \
    && xargs --arg-file=/ssdh/tools/setup/build_packages.txt \
       apt-get install -y --no-install-recommends python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ssdh
COPY requirements.txt requirements.lock ./
COPY tools/setup/make_venv.sh tools/setup/
RUN PIP_NO_CACHE_DIR=1 tools/setup/make_venv.sh packages

# The cache keeps what was fetched and compiled: a build that was interrupted, or a change of the
# installer, does not start anew.
ARG USE_NCCL
ARG USE_CUDNN
ARG CUDA_ARCHS
COPY requirements-cuda.txt requirements-cuda.lock ./
COPY tools/setup/install_caffe.sh tools/setup/
COPY tools/setup/patches tools/setup/patches
RUN --mount=type=cache,target=/ssdh/.caffe,sharing=locked \
    PIP_NO_CACHE_DIR=1 tools/setup/install_caffe.sh \
    && mkdir -p .caffe/nvidia /built \
    && cp -a .caffe/bin .caffe/lib .caffe/python .caffe/nvidia .caffe/build.json /built/


FROM debian AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends make python3 ca-certificates git tini \
       libboost-filesystem1.74.0 libboost-python1.74.0 libboost-thread1.74.0 libgflags2.2 \
       libgoogle-glog0v6 libhdf5-103-1 libhdf5-hl-100 libgomp1 liblmdb0 libopenblas0-pthread \
       libopencv-core406 libopencv-imgcodecs406 libopencv-imgproc406 libprotobuf32 libpython3.11 \
       libcudart11.0 libcublas11 libcublaslt11 libcurand10 \
       fonts-wqy-microhei \
    && rm -rf /var/lib/apt/lists/*

ARG UID
ARG GID
RUN groupadd --non-unique --gid "$GID" ssdh \
    && useradd --non-unique --uid "$UID" --gid "$GID" --create-home ssdh \
    && chmod 1777 /home/ssdh \
    && install -d -o ssdh -g ssdh /ssdh \
    && install -d -m 1777 -o ssdh -g ssdh /ssdh/data /ssdh/runs /ssdh/weights
ENV HOME=/home/ssdh
WORKDIR /ssdh


FROM runtime
COPY --from=builder --chown=ssdh:ssdh /ssdh/.venv .venv
COPY --from=builder --chown=ssdh:ssdh /built .caffe
COPY --chown=ssdh:ssdh . .

# The build's own choices, by which the installer knows that it has nothing to do here.
ARG USE_NCCL
ARG USE_CUDNN
ARG CUDA_ARCHS
ENV USE_NCCL=$USE_NCCL USE_CUDNN=$USE_CUDNN CUDA_ARCHS=$CUDA_ARCHS \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG UID
ARG GID
USER $UID:$GID
RUN make caffe

ARG IMAGE_BASE
ARG BASE_DIGEST=unknown
ARG COMMIT=unknown
ENV SSDH_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="ssdh" \
      org.opencontainers.image.description="Deep binary hashing (KevinNet, SSDH) on BVLC Caffe, with CUDA" \
      org.opencontainers.image.licenses="BSD-2-Clause" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.base.name="$IMAGE_BASE" \
      org.opencontainers.image.base.digest="$BASE_DIGEST"
HEALTHCHECK --interval=5m --timeout=60s CMD [".venv/bin/python", "-c", "import caffe"]
# make passes no Ctrl-C on: tini gives signals to all that run, so that training ends with a snapshot.
ENTRYPOINT ["tini", "-g", "--"]
CMD ["make", "help"]
