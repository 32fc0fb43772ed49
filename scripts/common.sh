# Shared by the scripts of this directory: where things are, and how they speak.
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=${KILONOVA_VENV:-$ROOT/.venv}
JUDGE=$ROOT/.venv-judge
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$@"
    exit 1
}

need_venv() {
    [[ -x $VENV/bin/python ]] || die "there is no environment in $VENV yet: run ./scripts/setup"
}
