"""Prints how far bert_jax is from its peers: `python -m tests.parity`.

Run by `launch/parity.sh`, in an environment that has the peers; the plain
tests need none of them and do not collect these files. A file `*_parity.py`
here holds `checks()`, which yields rows of name, worst difference and the
bound on it.
"""

import importlib
import math
import pathlib
import sys
import traceback


def main() -> int:
  here = pathlib.Path(__file__).parent
  names = [
    file.stem.removesuffix("_parity") for file in here.glob("*_parity.py")
  ]
  if unknown := set(sys.argv[1:]) - set(names):
    print(f"no check {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    return 2
  failed = 0
  print(f"{'check':58} {'worst':>9} {'bound':>9}")
  for name in sorted(set(sys.argv[1:]) or names):
    try:
      module = importlib.import_module(f"tests.parity.{name}_parity")
      for check, worst, bound in module.checks():
        within = not math.isnan(worst) and worst <= bound
        verdict = "ok" if within else "FAILED"
        print(f"{check:58} {worst:9.3g} {bound:9.3g} {verdict}", flush=True)
        failed += not within
    except Exception:
      traceback.print_exc()
      print(f"{name:78} FAILED", flush=True)
      failed += 1
  return 1 if failed else 0


if __name__ == "__main__":
  sys.exit(main())
