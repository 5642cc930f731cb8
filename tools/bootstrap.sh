#!/usr/bin/env bash
# Makes .venv with all that building and testing audito needs; called by make.
# What the distribution must give (compiler, headers, pkg-config, libsystemd) is installed through apt-get or dnf
# by root; anyone else gets one line to run. PYTHON=... names the interpreter, else the first that will do is taken.
# With the argument "tests": also what tests are skipped without.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
for_tests=${1:-}

say() { printf 'audito: %s\n' "$*" >&2; }

# 3.11 to 3.13. A pyenv shim can be on PATH for a version that is not installed, so it has to run.
in_range() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# Debian splits ensurepip (python3-venv) and Python.h (python3-dev) off.
complete() {
    "$1" - >/dev/null 2>&1 <<'PY'
import ensurepip, os, sys, sysconfig, venv
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))
PY
}

# Prints the interpreter: a complete one before one that lacks packages; nothing when none is in range.
find_python() {
    local candidate incomplete=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        if ! in_range "$candidate"; then continue; fi
        if complete "$candidate"; then
            echo "$candidate"
            return
        fi
        incomplete=${incomplete:-$candidate}
    done
    echo "$incomplete"
}

# Prints the packages that are missing for the interpreter $1 under the package manager $2.
missing_packages() {
    local python=$1 manager=$2 name
    local -a apt=() dnf=()
    if [ -z "$python" ]; then
        apt+=(python3 python3-venv python3-dev)
        dnf+=(python3.12 python3.12-devel)
    elif ! complete "$python"; then
        name=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        apt+=("$name-venv" "$name-dev")
        dnf+=("$name-devel")
    fi
    if ! printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1; then
        apt+=(gcc libc6-dev)
        dnf+=(gcc glibc-devel)
    fi
    if ! command -v pkg-config >/dev/null; then
        apt+=(pkg-config)
        dnf+=(pkgconf-pkg-config)
    fi
    if ! pkg-config --exists libsystemd 2>/dev/null; then
        apt+=(libsystemd-dev)
        dnf+=(systemd-devel)
    fi
    if [ -n "$for_tests" ] && [ ! -x /lib/systemd/systemd-journal-remote ]; then
        apt+=(systemd-journal-remote)
        dnf+=(systemd-journal-remote)
    fi
    if [ -n "$for_tests" ] && [ ! -e /usr/include/libaudit.h ]; then
        apt+=(libaudit-dev)
        dnf+=(audit-libs-devel)
    fi
    if [ -n "$for_tests" ] && ! { [ -x /usr/sbin/sshd ] && command -v ssh-keygen >/dev/null; }; then
        apt+=(openssh-server openssh-client)
        dnf+=(openssh-server openssh-clients)
    fi
    if [ -n "$for_tests" ] && ! command -v valgrind >/dev/null; then
        apt+=(valgrind)
        dnf+=(valgrind)
    fi
    case $manager in
        dnf) echo "${dnf[*]}" ;;
        *) echo "${apt[*]}" ;;
    esac
}

install_packages() {
    local manager=$1
    shift
    say "installing $*"
    case $manager in
        apt-get)
            export DEBIAN_FRONTEND=noninteractive
            local -a options=(-qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
            apt-get "${options[@]}" update
            apt-get "${options[@]}" install -y --no-install-recommends "$@" >/dev/null
            ;;
        dnf) dnf -q install -y --setopt=install_weak_deps=False "$@" ;;
    esac
}

system_setup() {
    local manager="" packages
    for candidate in apt-get dnf; do
        if command -v "$candidate" >/dev/null; then
            manager=$candidate
            break
        fi
    done
    packages=$(missing_packages "$(find_python)" "$manager")
    if [ -z "$packages" ]; then return; fi
    if [ -z "$manager" ]; then
        say "neither apt-get nor dnf is here; install what Debian calls: $packages"
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        case $manager in
            apt-get) say "system packages are missing, run: sudo apt-get update && sudo apt-get install -y $packages" ;;
            dnf) say "system packages are missing, run: sudo dnf install -y $packages" ;;
        esac
        exit 1
    fi
    # shellcheck disable=SC2086  # a list of words
    install_packages "$manager" $packages
}

# The packages that pyproject.toml names for building, running and developing, one a line.
requirements() {
    "$venv/bin/python" - <<'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
print(*project["build-system"]["requires"], *project["project"]["dependencies"],
      *project["project"]["optional-dependencies"]["dev"], sep="\n")
PY
}

venv_setup() {
    local python
    local -a wanted
    if ! { in_range "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
        python=$(find_python)
        if [ -z "$python" ] || ! complete "$python"; then
            say "no Python 3.11 to 3.13 with venv and headers was found; install one and name it: make PYTHON=/path/to/python3"
            exit 1
        fi
        say "making $venv with $("$python" --version)"
        "$python" -m venv --clear "$venv"
    fi
    mapfile -t wanted < <(requirements)
    say "installing the Python packages that pyproject.toml names"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --use-pep517 "${wanted[@]}"
}

system_setup
venv_setup
