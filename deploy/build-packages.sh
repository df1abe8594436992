# Sourced by deploy/demo and tests/run: the packages of Debian and Ubuntu that the
# build needs, and how to install them. Needs bash, and root only if one is missing.
#
#   missing_build_packages    prints the packages that the build lacks
#   install_packages NAME...  names and installs them; on failure it says what to do
#   unpack_packages DIRECTORY NAME...
#                             unpacks them into a new directory without installing
#   ensure_build_packages     checks cargo, and installs missing packages

# Asks the tools themselves and not dpkg, so that other systems and installations
# by hand pass, too.
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

as_root() {
    if [ "$EUID" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_packages() {
    echo "installing with apt-get: $*" >&2
    if ! command -v apt-get >/dev/null; then
        echo "apt-get is missing: install the contents of these Debian packages: $*" >&2
        return 1
    fi
    if [ "$EUID" != 0 ] && ! command -v sudo >/dev/null; then
        echo "neither root nor sudo: as root, run: apt-get install $*" >&2
        return 1
    fi
    # Old package lists may be good enough, so go on after a failed update.
    as_root apt-get update -qq || echo "apt-get update failed; continuing" >&2
    if ! as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"; then
        echo "apt-get could not install them. Try: apt-get install $*" >&2
        return 1
    fi
}

fetch_packages() {
    # A new machine has no package lists; those of an old machine may be too old.
    apt-get download -qq -o APT::Sandbox::User=root "$@" 2>/dev/null || {
        as_root apt-get update -qq || echo "apt-get update failed; continuing" >&2
        apt-get download -qq -o APT::Sandbox::User=root "$@"
    }
}

unpack_packages() {
    local directory=$1 new
    shift
    if ! command -v apt-get >/dev/null; then
        echo "apt-get is missing: unpack these Debian packages into $directory: $*" >&2
        return 1
    fi
    new=$(mktemp -d "$directory.XXXXXX")
    if ! (cd "$new" && fetch_packages "$@" && for package in *.deb; do
        dpkg-deb -x "$package" . || exit 1
    done && rm -- *.deb); then
        rm -rf "$new"
        echo "cannot fetch these Debian packages: $*" >&2
        return 1
    fi
    chmod 755 "$new"
    mv "$new" "$directory"
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
