# Sourced by the other scripts: makes .venv, installs the package into it with
# the extras given as $1, and activates it. PYTHON names the interpreter to
# make it with, 3.11 or newer.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: $python is not Python 3.11 or newer; name one as PYTHON=..." >&2
  exit 2
fi
# A stamp for each set of extras says what was installed; it is written only
# after success.
stamp=".venv/installed$1"
wanted=$(cat requirements.txt pyproject.toml | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "Installing into .venv ..."
  [ -x .venv/bin/python ] || "$python" -m venv .venv || exit 1
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --editable ".$1" || exit 1
  echo "$wanted" > "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
