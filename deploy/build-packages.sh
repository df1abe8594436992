# Sourced by deploy/demo and tests/run: what the build needs from the system,
# and how to get it on Debian and Ubuntu. Needs bash; works without root when
# nothing is missing.
#
#   missing_build_packages    prints the packages that the build lacks
#   install_packages NAME...  installs them, saying which; fails with what to do
#   ensure_build_packages     both, and cargo

# What is there is asked of the tools themselves, not of dpkg, so that other
# systems and hand-made installations pass too.
missing_build_packages() {
    local missing=()
    if ! command -v cc >/dev/null; then
        missing+=(gcc libc6-dev)
    elif ! has_header stdlib.h; then
        missing+=(libc6-dev)
    fi
    command -v c++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    has_header openssl/ssl.h || missing+=(libssl-dev)
    has_header zlib.h || missing+=(zlib1g-dev)
    echo "${missing[*]}"
}

has_header() {
    local flags=""
    if command -v pkg-config >/dev/null; then
        flags=$(pkg-config --cflags openssl zlib 2>/dev/null || true)
    fi
    # shellcheck disable=SC2086 # the flags are several words
    command -v cc >/dev/null &&
        echo "#include <$1>" | cc $flags -E - >/dev/null 2>&1
}

install_packages() {
    local as_root=()
    echo "installing with apt-get: $*" >&2
    if [ "$EUID" != 0 ]; then
        as_root=(sudo)
    fi
    if ! command -v apt-get >/dev/null; then
        echo "there is no apt-get here: install what these Debian packages hold: $*" >&2
        return 1
    fi
    if [ "${#as_root[@]}" != 0 ] && ! command -v sudo >/dev/null; then
        echo "neither root nor sudo: have somebody run: apt-get install $*" >&2
        return 1
    fi
    # Old lists may still do, so a failed update is not the end.
    "${as_root[@]}" apt-get update -qq || echo "apt-get update failed, going on" >&2
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"; then
        echo "apt-get could not install them: run: apt-get install $*" >&2
        return 1
    fi
}

ensure_build_packages() {
    local missing
    if ! command -v cargo >/dev/null; then
        echo "cargo is missing: see https://rustup.rs" >&2
        return 1
    fi
    missing=$(missing_build_packages)
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # several names
        install_packages $missing
    fi
}
