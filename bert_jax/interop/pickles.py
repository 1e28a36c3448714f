"""Refuses weights in unsafe formats, with the command that converts them.

Unpickling runs code of the file, and HDF5 and msgpack need a framework to
read. safetensors has neither problem.
"""

import fnmatch
import json
import shlex
from collections.abc import Iterable

# By pattern of the file name: the packages that the conversion needs, and its
# option.
_KINDS = {
  "pytorch_model*.bin": ("PyTorch", ""),
  "tf_model*.h5": ("TensorFlow and Transformers 4", ", from_tf=True"),
  "flax_model*.msgpack": ("Flax and Transformers 4", ", from_flax=True"),
}
_OTHERS = ("*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack", "*.bin")
# Uses the architecture that the config names, to keep its head.
_CODE = (
  "import transformers as t; c = t.AutoConfig.from_pretrained({source});"
  ' m = getattr(t, (c.architectures or ["AutoModelForPreTraining"])[0]);'
  " m.from_pretrained({source}{option})"
  ".save_pretrained({target}, safe_serialization=True)"
)
_TOKENIZER = (
  "; t.AutoTokenizer.from_pretrained({source}).save_pretrained({target})"
)


def advice(
  files: Iterable[str], source: str, target: str, revision: str | None = None
) -> str | None:
  """The unsafe weights among files, and how to convert them; None without any.

  `source` is the folder or repository, as for `from_pretrained`; `target` the
  folder to convert to.
  """
  names = sorted(files)
  quoted = {"source": json.dumps(source), "target": json.dumps(target)}
  if revision:
    quoted["source"] += f", revision={json.dumps(revision)}"
  code = _CODE if source == target else _CODE + _TOKENIZER
  for pattern in (*_KINDS, *_OTHERS):
    if not (found := fnmatch.filter(names, pattern)):
      continue
    remedy = (
      "load it with the code that wrote it and call"
      f" save_pretrained({quoted['target']}, safe_serialization=True)"
    )
    if pattern in _KINDS:
      needs, option = _KINDS[pattern]
      command = shlex.quote(code.format(option=option, **quoted))
      remedy = f"convert it where {needs} is installed: python -c {command}"
    return (
      f"found only {found[0]}, which is not read, since opening it can run"
      f" code; {remedy}"
    )
  return None
