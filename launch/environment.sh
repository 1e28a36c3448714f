# Sourced by the other scripts; changes to the root of the project. PYTHON names
# the interpreter of new environments, 3.11 or newer.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# wait_for PID: waits until the process has ended and returns its exit code,
# also if a trapped signal interrupts the wait.
wait_for() {
  local code=0
  wait "$1" || code=$?
  while kill -0 "$1" 2>/dev/null; do
    code=0
    wait "$1" || code=$?
  done
  return "$code"
}

# environment FOLDER PACKAGE...: creates a virtual environment with these
# packages (arguments of pip) unless it exists, and puts it on the PATH.
environment() {
  local folder=$1 python=${PYTHON:-python3} stamp wanted
  shift
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: $python is not Python 3.11 or newer; set PYTHON=..." >&2
    exit 2
  fi
  # One stamp per list of packages, written only after success.
  stamp=$folder/installed-$(echo "$@" | cksum | cut -d ' ' -f 1)
  wanted=$(cat requirements.txt pyproject.toml setup.py | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing $* into $folder ..."
    "$python" -m venv "$folder" || exit 1
    # An old pip may search for compatible versions for a quarter of an hour.
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
      --upgrade pip || exit 1
    "$folder/bin/python" -m pip install --quiet "$@" || exit 1
    echo "$wanted" > "$stamp"
  fi
  export PATH="$PWD/$folder/bin:$PATH"
}
