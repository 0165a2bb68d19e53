#!/usr/bin/env bash
# The CUDA image, by Docker or Podman, or by buildah where no engine runs.
#
#   tools/setup/image.sh build    build it; IMAGE_BASE, CUDA_ARCHS, USE_NCCL and USE_CUDNN go to the Dockerfile
#                                 where set
#   tools/setup/image.sh shell    a shell in it, with data, runs and weights of this folder
#   tools/setup/image.sh test     the project's tests in it, on the CPU
#
#   IMAGE=ssdh        its name
#   BUILD_FLAGS=...   further flags of the build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

image=${IMAGE:-ssdh}
die() { printf '[image] %s\n' "$*" >&2; exit 1; }

if docker info >/dev/null 2>&1; then engine=docker
elif podman info >/dev/null 2>&1; then engine=podman
elif command -v buildah >/dev/null; then engine=buildah
else die "neither Docker nor Podman runs here, and there is no buildah: as root 'apt-get install buildah', then repeat."
fi

# in_image [flags of the engine's run ...] -- command ...
in_image() {
    local flags=() container status=0
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    [ ! -t 0 ] || flags+=(-t)
    if [ "$engine" != buildah ]; then
        [ ! -t 0 ] || flags+=(-i)
        "$engine" run --rm "${flags[@]}" "$image" "$@"
        return
    fi
    container=$(buildah from --pull=never "$image") || die "there is no image $image: 'make image' builds it."
    buildah run --isolation chroot "${flags[@]}" "$container" -- "$@" || status=$?
    buildah rm "$container" >/dev/null
    return $status
}

# The digest of a base image that came from a registry, "" of one that was made here.
digest_of() {
    "$engine" pull "$1" >/dev/null 2>&1 || true  # what lies here serves, too
    case $engine in
    buildah) buildah inspect --type image --format '{{.FromImageDigest}}' "$1" ;;
    *) "$engine" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" | sed 's/.*@//; q' ;;
    esac 2>/dev/null || true
}

case ${1:-} in
build)
    base=${IMAGE_BASE:-$(sed -n 's/^ARG IMAGE_BASE=//p' Dockerfile)}
    digest=$(digest_of "$base")
    printf '[image] base: %s, digest %s\n' "$base" "${digest:-unknown}"
    arguments=(--build-arg "COMMIT=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
    arguments+=(--build-arg "IMAGE_BASE=$base" --build-arg "BASE_DIGEST=${digest:-unknown}")
    [ "$(id -u)" = 0 ] || arguments+=(--build-arg "UID=$(id -u)" --build-arg "GID=$(id -g)")
    for name in CUDA_ARCHS USE_NCCL USE_CUDNN; do
        [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
    done
    read -ra more <<<"${BUILD_FLAGS:-}"
    case $engine in
    buildah) buildah build --isolation chroot --layers --format docker "${arguments[@]}" "${more[@]}" -t "$image" . ;;
    podman) podman build --format docker "${arguments[@]}" "${more[@]}" -t "$image" . ;;
    docker) DOCKER_BUILDKIT=1 docker build "${arguments[@]}" "${more[@]}" -t "$image" . ;;
    esac
    ;;
shell)
    mkdir -p data runs weights
    flags=(-v "$PWD/data:/ssdh/data" -v "$PWD/runs:/ssdh/runs" -v "$PWD/weights:/ssdh/weights")
    flags+=(--user "$(id -u):$(id -g)")
    [ $engine = buildah ] || flags+=(--shm-size=1g)  # for NCCL
    [ $engine != podman ] || [ "$(id -u)" = 0 ] || flags+=(--userns=keep-id)
    if command -v nvidia-smi >/dev/null; then
        case $engine in
        docker) flags+=(--gpus all) ;;
        podman) flags+=(--device nvidia.com/gpu=all) ;;  # of the container toolkit's CDI files
        esac
    fi
    in_image "${flags[@]}" -- bash
    ;;
test) in_image -- make test ;;
*) die "say build, shell or test" ;;
esac
