#!/usr/bin/env bash
# Builds BVLC Caffe (commit 99bd997, 2018-08-21) from source on Debian 12 and installs it with pycaffe.
#
#   tools/setup/install_caffe.sh            build and install into .caffe/ (CAFFE_PREFIX=dir for another place)
#   tools/setup/install_caffe.sh test       build and run BVLC's own C++ test suite against this build
#
#   CAFFE_SRC=path    a Git checkout of that commit, Debian's unpacked source tree, or the source tarball
#   CUDA_ARCHS="..."  compute capabilities of a CUDA build; one is made where nvcc 11 and its libraries are
#   USE_NCCL=1        a CUDA build that trains on several GPUs, with PyPI's NCCL
#   USE_CUDNN=1       a CUDA build with PyPI's cuDNN 8 (tools/setup/patches/cudnn)
#   USE_DNNL=0        a CPU build without the layers on oneDNN (tools/setup/patches/dnnl)
#
# Each step leaves its result under a final name only when it is whole, so a run that was interrupted
# is simply run again. build.json is written last and says that all is there.
set -euo pipefail

commit=99bd99795dcdf0b1d3086a8d67ab1782a8a08383
tarball_sha256=e0eb3f06794f7402c77b7dec8e8480273ee1a1bb192e9122b621a69d4147ad0c
debian_version='1.0.0+git20180821.99bd997-8'
debian_tree_sha256=d7bb1070c8c3987d33bcbd2a0bc3743677a39870d9098f73a431198f39b88b6c  # see check_debian_tree

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
prefix=${CAFFE_PREFIX:-$repo/.caffe}
python=${PYTHON:-$repo/.venv/bin/python}
patches=$repo/tools/setup/patches
stamp=$prefix/build.json

say() { printf '[caffe] %s\n' "$*"; }
die() { printf '[caffe] %s\n' "$*" >&2; exit 1; }

# What was asked of a CUDA build; nothing by default. nvidia-smi writes 8.6, others 80;86 or 80,86.
read -ra archs <<<"$(tr ',;' '  ' <<<"${CUDA_ARCHS:-}" | tr -d .)"
for arch in "${archs[@]}"; do
    [[ $arch =~ ^[1-9][0-9]{1,2}$ ]] || die "CUDA_ARCHS=\"$CUDA_ARCHS\": $arch is not a compute capability; give them as in \"80 86\"."
done
CUDA_ARCHS="${archs[*]}"
wishes=${CUDA_ARCHS:+CUDA_ARCHS=\"$CUDA_ARCHS\" }
[ "${USE_NCCL:-0}" = 0 ] || wishes+="USE_NCCL=1 "
[ "${USE_CUDNN:-0}" = 0 ] || wishes+="USE_CUDNN=1 "
wished() { case $wishes in *"$1=1 "*) return 0 ;; *) return 1 ;; esac; }

# CPU and CUDA builds have patches of their own, and those of what they were asked to use. What kind of build
# this is the finished one tells, or what was asked for, or else the machine (below).
kind=CPU
if [ -n "$wishes" ] || grep -q '"device": "CUDA"' "$stamp" 2>/dev/null; then kind=CUDA; fi
case ${USE_DNNL:-1} in 0 | 1) ;; *) die "USE_DNNL=$USE_DNNL is not known: it is 0, or left out" ;; esac
own_patches() {
    local name
    if [ "$kind" = CPU ]; then
        [ "${USE_DNNL:-1}" = 0 ] || printf '%s\n' "$patches"/dnnl/*.patch
        return
    fi
    printf '%s\n' "$patches"/cuda/*.patch
    for name in NCCL CUDNN; do if wished "USE_$name"; then printf '%s\n' "$patches/${name,,}"/*.patch; fi; done
}

# The pinned packages of what was asked for: NVIDIA's own, and what they load.
pins() {
    local name
    for name in NCCL CUDNN; do if wished "USE_$name"; then sed -n "s/ *# *$name\$//p" "$repo/requirements-cuda.txt"; fi; done
}

# The entries of pins in requirements-cuda.lock: each with the SHA-256 of its file.
locked() {
    local pin entry
    while read -r pin; do
        entry=$(sed -n "/^$pin /,/[0-9a-f]\$/p" "$repo/requirements-cuda.lock")
        [ -n "$entry" ] || die "requirements-cuda.lock has no $pin: make it again, .venv/bin/python -m tools.setup.lock"
        printf '%s\n' "$entry"
    done <<<"$1"
}

# What the build depends on: when one of these changes, Caffe is built again.
build_key() {
    { echo "$commit $prefix"; "$python" -c 'import numpy, sys; print(numpy.__version__, sys.version_info[:2])'
      cat "$patches"/*.patch "$patches"/plain/*.patch
      own_patches | xargs -r cat; printf '%s' "$wishes"; pins; } | sha256sum | cut -c1-16
}

install_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || die "these Debian packages are needed: run as root 'apt-get install ${missing[*]}', then repeat."
    say "installing Debian packages: ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" \
        </dev/null >"$prefix/apt.log" 2>&1 || { tail -n 5 "$prefix/apt.log" >&2; die "apt-get failed; all of its words are in $prefix/apt.log"; }
}

# Whether apt has a package, also on a fresh image, which knows none before its first update.
known_package() {
    [ -n "$(dpkg-query -W "$1" 2>/dev/null)" ] || [ -n "$(apt-cache show "$1" 2>/dev/null)" ] && return
    [ "$(id -u)" -eq 0 ] && apt-get -qq update && [ -n "$(apt-cache show "$1" 2>/dev/null)" ]
}

# fetch_from MIRROR FOLDER [apt options]: Debian 11's source package, signature-checked by apt.
fetch_from() {
    local mirror=$1 folder=$2; shift 2
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$folder/bullseye.list"
    local apt=(apt-get -qq -o Dir::Etc::SourceList="$folder/bullseye.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User= -o Acquire::Retries=2 "$@")
    "${apt[@]}" update && (cd "$folder" && "${apt[@]}" source --download-only "caffe=$debian_version")
}

unpack_tarball() {
    echo "$tarball_sha256  $1" | sha256sum --check --status \
        || die "$1 is not the source of commit 99bd997: its SHA-256 should be $tarball_sha256"
    mkdir -p "$2" && tar -xzf "$1" -C "$2"
}

# Debian's tree as dpkg-source unpacks it, with Debian's own patches applied: one SHA-256 over the sorted
# list of every file and its SHA-256, without the folders debian and .pc, which the build does not read.
check_debian_tree() {
    local found
    found=$(cd "$1" && find . \( -type f -o -type l \) -not -path './debian/*' -not -path './.pc/*' -print0 \
        | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1) || found=unreadable
    [ "$found" = "$debian_tree_sha256" ] \
        || die "CAFFE_SRC=$CAFFE_SRC is not the unchanged tree of Debian's caffe $debian_version: a file differs, is missing, or is there besides. Unpack it anew: dpkg-source -x caffe_$debian_version.dsc"
}

# Leaves the verified, unpatched source in the folder $1.
fetch_source() {
    local target=$1 download=$prefix/download mirror
    if [ -n "${CAFFE_SRC:-}" ]; then
        say "source: CAFFE_SRC=$CAFFE_SRC"
        if [ -f "$CAFFE_SRC" ]; then
            unpack_tarball "$CAFFE_SRC" "$target"
        elif [ -e "$CAFFE_SRC/.git" ]; then
            [ "$(git -C "$CAFFE_SRC" rev-parse HEAD)" = "$commit" ] \
                || die "CAFFE_SRC=$CAFFE_SRC is not at commit $commit: git checkout 99bd997 there first."
            mkdir -p "$target" && git -C "$CAFFE_SRC" archive "$commit" | tar -x -C "$target"
        elif head -n 1 "$CAFFE_SRC/debian/changelog" 2>/dev/null | grep -qF "($debian_version)"; then
            cp -r "$CAFFE_SRC/." "$target"
            check_debian_tree "$target"
        else
            die "CAFFE_SRC=$CAFFE_SRC is none of: the tarball, a Git checkout, Debian's tree of caffe $debian_version."
        fi
        return
    fi
    rm -rf "$download"
    # A fresh image of Debian knows its mirror only after the first update.
    [ -n "$(apt-get indextargets)" ] || apt-get -qq update || true
    for mirror in $(apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' | sed -n "s/^$(. /etc/os-release; echo "$VERSION_CODENAME") //p" | sort -u); do
        say "source: Debian 11's caffe $debian_version, from this machine's own mirror"
        if fetch_from "$mirror" "$download"; then break; fi
    done
    if [ ! -e "$download/caffe_${debian_version%-*}.orig.tar.gz" ]; then
        say "source: this machine's mirror has no Debian 11 any more; trying Debian's archive"
        fetch_from http://archive.debian.org/debian "$download" -o Acquire::Check-Valid-Until=false || true
    fi
    if [ -e "$download/caffe_${debian_version%-*}.orig.tar.gz" ]; then
        unpack_tarball "$download/caffe_${debian_version%-*}.orig.tar.gz" "$target"
    else
        say "source: Debian's archive does not answer either; trying BVLC's repository"
        install_packages git ca-certificates
        git clone --quiet https://github.com/BVLC/caffe.git "$download/git" \
            || die "no route to Caffe's source worked. Put a checkout of BVLC/caffe at 99bd997, or the tarball caffe_${debian_version%-*}.orig.tar.gz, on this machine and give its path as CAFFE_SRC=."
        mkdir -p "$target" && git -C "$download/git" archive "$commit" | tar -x -C "$target"
    fi
    rm -rf "$download"
}

apply_patches() {
    local patch list=("$patches"/*.patch)
    [ -e "$1/debian/changelog" ] || list+=("$patches"/plain/*.patch)
    mapfile -t -O ${#list[@]} list < <(own_patches)
    for patch in "${list[@]}"; do
        say "patch: ${patch##*/}"
        patch --silent --directory="$1" --strip=1 <"$patch"
    done
}

# Prints the CMake options of a CUDA build where one can be made here, else says why not and fails.
cuda_options() {
    local probe archs=${CUDA_ARCHS:-60 61 70 75 80 86 89 90}
    command -v nvcc >/dev/null || { say "no nvcc" >&2; return 1; }
    nvcc --version | grep -q 'release 11\.' || { say "nvcc is not of CUDA 11, which this Caffe needs" >&2; return 1; }
    command -v g++-11 >/dev/null || { say "nvcc 11 needs g++-11, which is not installed" >&2; return 1; }
    probe=$(mktemp -d)
    echo 'int main() { return 0; }' >"$probe/probe.cu"
    if ! nvcc -ccbin g++-11 -o "$probe/probe" "$probe/probe.cu" -lcudart -lcublas -lcurand >/dev/null 2>&1; then
        rm -r "$probe"
        say "nvcc does not link cudart, cuBLAS and cuRAND here" >&2; return 1
    fi
    rm -r "$probe"
    printf '%s\n' -DCPU_ONLY=OFF -DCUDA_ARCH_NAME=Manual "-DCUDA_ARCH_BIN=$archs" \
        "-DCUDA_ARCH_PTX=${archs##* }" -DCUDA_HOST_COMPILER=/usr/bin/g++-11 \
        -DCMAKE_C_COMPILER=gcc-11 -DCMAKE_CXX_COMPILER=g++-11
    if wished USE_NCCL; then
        printf '%s\n' -DUSE_NCCL=ON "-DNCCL_INCLUDE_DIR=$nvidia/nccl/include" "-DNCCL_LIBRARIES=$nvidia/nccl/lib/libnccl.so.2"
    else
        echo -DUSE_NCCL=OFF
    fi
    if wished USE_CUDNN; then
        printf '%s\n' -DUSE_CUDNN=ON "-DCUDNN_INCLUDE=$nvidia/cudnn/include" "-DCUDNN_LIBRARY=$nvidia/cudnn/lib/libcudnn.so.8"
    else
        echo -DUSE_CUDNN=OFF
    fi
}

# Makes $nvidia the libraries that were asked for, at the versions that requirements-cuda.txt pins.
fetch_nvidia() {
    local part=$prefix/nvidia.partial wanted name
    wanted=$(pins)
    [ "$(cat "$nvidia/pins" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$nvidia" "$part"
    mkdir -p "$part"
    if [ -n "$wanted" ]; then
        say "fetching from PyPI: ${wanted//$'\n'/, }"
        locked "$wanted" >"$part/requirements.txt"
        "$python" -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps --target "$part/pip" \
            --requirement "$part/requirements.txt" || die "pip could not fetch them; its words are above."
        for name in nccl cudnn; do
            [ ! -d "$part/pip/nvidia/$name" ] || mv "$part/pip/nvidia/$name" "$part/"
        done
        if wished USE_CUDNN; then  # it looks beside itself for the compiler of its kernels
            mv "$part"/pip/nvidia/cuda_nvrtc/lib/libnvrtc*.so.* "$part/cudnn/lib/"
            ln -s libnvrtc.so.11.2 "$part/cudnn/lib/libnvrtc.so"
        fi
        rm -r "$part/pip" "$part/requirements.txt"
    fi
    printf '%s\n' "$wanted" >"$part/pins"
    mv "$part" "$nvidia"
}

# Runs a command that sees nothing of what a person gave: every make expands the variables that it passes on, so
# that one below this one would run a path's "$(shell ...)".
alone() { env -i PATH="$PATH" HOME="${HOME:-/}" TMPDIR="${TMPDIR:-/tmp}" LANG=C.UTF-8 "$@"; }

configure() {
    local multiarch
    multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
    # Debian's own Python, its headers, and NumPy's headers of the venv that will import pycaffe.
    local version; version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    alone cmake -S "$prefix/src" -B "$prefix/build" -Wno-dev -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
        -DBLAS=Open -DUSE_LEVELDB=OFF -DUSE_LMDB=ON -DUSE_OPENCV=ON -DBUILD_docs=OFF -DBUILD_matlab=OFF \
        -DBUILD_python=ON -DBUILD_python_layer=ON -Dpython_version="$version" -DPYTHON_EXECUTABLE="$python" \
        -DPYTHON_INCLUDE_DIR="/usr/include/python$version" -DPYTHON_LIBRARY="/usr/lib/$multiarch/libpython$version.so" \
        "${device[@]}" >"$prefix/cmake.log" 2>&1 || { tail -n 20 "$prefix/cmake.log" >&2; die "cmake failed: $prefix/cmake.log"; }
}

compile() {
    say "compiling $1 on $(nproc) cores (log: $prefix/make.log)"
    if [ -t 1 ]; then
        alone make -C "$prefix/build" -j"$(nproc)" "$1" 2>"$prefix/make.err" | tee "$prefix/make.log" \
            | sed -un 's/^\[ *\([0-9]*%\)\].*/\1/p' | while read -r percent; do printf '\r[caffe] %s ' "$percent"; done
        printf '\r'
    else
        alone make -C "$prefix/build" -j"$(nproc)" "$1" >"$prefix/make.log" 2>"$prefix/make.err"
    fi || { grep -m 5 -iE 'error|cannot' "$prefix/make.err" >&2; die "the build failed; see $prefix/make.err"; }
}

[ -x "$python" ] || die "there is no Python at $python: run 'make venv' first."
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
nvidia=$prefix/nvidia

# Every Python of the venv finds this pycaffe, without PYTHONPATH; said once the build is whole.
point_python_here() {
    local pth; pth=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/caffe.pth
    [ "$(cat "$pth" 2>/dev/null)" = "$prefix/python" ] || { echo "$prefix/python" >"$pth.partial" && mv "$pth.partial" "$pth"; }
}

# A finished build is only read: its folder may belong to somebody else.
key=$(build_key)
finished() { [ -e "$stamp" ] && grep -q "\"key\": \"$key\"" "$stamp"; }
if [ "${1:-}" != test ] && finished; then point_python_here; exit 0; fi
exec 9>"$prefix/.lock" && flock 9   # two builds at once would trip over each other

if [ "${1:-}" = test ]; then
    [ -e "$prefix/build/Makefile" ] || die "there is no build tree in $prefix/build: run 'make caffe' first."
    compile test.testbin
    filter='*'
    if grep -q '"device": "CPU"' "$stamp"; then filter='-*GPU*'; fi  # as BVLC's own runtest has it
    cd "$prefix/src" && exec "$prefix/build/test/test.testbin" --gtest_filter="$filter"
fi

if finished; then point_python_here; exit 0; fi
started=$SECONDS
say "Caffe 99bd997 goes into $prefix"
mapfile -t device < <(cuda_options)
[ ${#device[@]} -gt 0 ] || [ -z "$wishes" ] || die "${wishes}asks for a CUDA build, which cannot be made here; see above."
if [ ${#device[@]} -gt 0 ]; then kind=CUDA; else say "building for the CPU"; kind=CPU device=(-DCPU_ONLY=ON); fi
key=$(build_key)
mapfile -t build_packages <"$repo/tools/setup/build_packages.txt"  # libopencv-dev alone has OpenCVConfig.cmake
install_packages "${build_packages[@]}"
engine=caffe
if [ $kind = CPU ] && [ "${USE_DNNL:-1}" = 1 ]; then
    if known_package libdnnl-dev; then
        install_packages libdnnl-dev
        engine=dnnl device+=(-DUSE_DNNL=ON)
    else
        say "there is no package libdnnl-dev for this machine: every layer will be Caffe's own, which is slower"
    fi
fi
fetch_nvidia
source_key=$({ cat "$patches"/*.patch "$patches"/plain/*.patch; own_patches | xargs -r cat; } | sha256sum | cut -c1-16)
if [ "$(cat "$prefix/src/.patched" 2>/dev/null)" != "$source_key" ]; then
    rm -rf "$prefix/src" "$prefix/src.partial" "$prefix/build"
    mkdir "$prefix/src.partial"
    fetch_source "$prefix/src.partial"
    apply_patches "$prefix/src.partial"
    echo "$source_key" >"$prefix/src.partial/.patched"
    mv "$prefix/src.partial" "$prefix/src"
fi
configure
compile all
rm -f "$stamp"
rm -rf "$prefix/python"
alone make -C "$prefix/build" install >"$prefix/install.log" 2>&1 || { tail -n 5 "$prefix/install.log" >&2; die "the installation failed: $prefix/install.log"; }
# Debian's tree installs pycaffe under lib/python3/dist-packages; one place serves both trees.
if [ -d "$prefix/lib/python3/dist-packages/caffe" ]; then
    mkdir -p "$prefix/python" && mv "$prefix/lib/python3/dist-packages/caffe" "$prefix/python/caffe"
fi

say "checking: import caffe, one-layer net"
PYTHONPATH="$prefix/python" GLOG_minloglevel=2 "$python" -W error - <<'PY' || die "pycaffe was built but does not work; see above."
import tempfile

import caffe

text = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
text += 'layer { name: "s" type: "Sigmoid" bottom: "x" top: "y" }'
with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
    file.write(text)
    file.flush()
    net = caffe.Net(file.name, caffe.TEST)
net.blobs["x"].data[...] = 0
assert (net.forward()["y"] == 0.5).all(), "Sigmoid(0) is not 0.5"
assert "Python" in caffe.layer_type_list(), "built without Python layers"
PY

cached() { sed -n "s/^$1:[A-Z]*=//p" "$prefix/build/CMakeCache.txt"; }
cuda=
if [ $kind = CUDA ]; then
    cuda="
 \"cuda\": \"$(cached CUDA_VERSION)\", \"archs\": [$(cached CUDA_ARCH_BIN | sed 's/ /, /g')], \"ptx\": $(cached CUDA_ARCH_PTX),
 \"nccl\": $(wished USE_NCCL && echo true || echo false), \"cudnn\": $(wished USE_CUDNN && echo true || echo false),"
fi
compiler="$("$(cached CMAKE_CXX_COMPILER)" --version | head -n 1)"
cat >"$stamp.partial" <<J
{"key": "$key", "commit": "$commit", "device": "$kind", "engine": "$engine", "blas": "OpenBLAS",$cuda
 "compiler": "$compiler",
 "source": "$([ -e "$prefix/src/debian/changelog" ] && echo "Debian's tree" || echo "BVLC's tree")"}
J
sync "$stamp.partial" && mv "$stamp.partial" "$stamp"
point_python_here
say "Caffe ($kind) is ready in $prefix after $((SECONDS - started)) s"
