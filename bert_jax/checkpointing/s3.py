"""Checkpoints on `s3://`, by a patch of Orbax's private functions.

Orbax reads and writes arrays with TensorStore, which supports `s3://`. But
Orbax (0.12.8) makes the TensorStore specs of OCDBT checkpoints in private
functions that know local paths and `gs://` only, and no public option, handler
or registry changes them: these three functions have to be replaced. Once Orbax
supports `s3://` paths, this module can be removed.
"""

import os
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from bert_jax.settings import UserError

_PREFIX = "s3://"
_patched = False


def patch_orbax() -> None:
  """Makes Orbax accept paths that start with `s3://`.

  The endpoint and the region are those of AWS_ENDPOINT_URL and AWS_REGION, or
  else Amazon's defaults; credentials are looked up as by Amazon's own tools.

  Raises:
    UserError: this version of Orbax has other private functions.
  """
  global _patched
  if _patched:
    return
  try:
    normalized = tensorstore_utils._normalize_path
    uses_gcs = tensorstore_utils._use_gcs_driver
    spec_of = gcs_utils.get_kvstore_for_gcs
  except AttributeError as error:
    raise UserError(
      "checkpoints on s3:// are not supported with orbax-checkpoint"
      f" {ocp.__version__}; use 0.12.8, which was tested"
    ) from error

  def is_s3(path: str) -> bool:
    return path.startswith(_PREFIX)

  tensorstore_utils._normalize_path = lambda path: (
    path.rstrip("/") if is_s3(path) else normalized(path)
  )
  tensorstore_utils._use_gcs_driver = lambda path: is_s3(path) or uses_gcs(path)
  gcs_utils.get_kvstore_for_gcs = lambda path: (
    _spec(path) if is_s3(path) else spec_of(path)
  )
  _patched = True


def _spec(path: str) -> dict[str, Any]:
  """The TensorStore spec of a path."""
  bucket, _, key = path.removeprefix(_PREFIX).partition("/")
  spec = {"driver": "s3", "bucket": bucket, "path": key}
  environ = os.environ
  endpoint = environ.get("AWS_ENDPOINT_URL_S3", environ.get("AWS_ENDPOINT_URL"))
  region = environ.get("AWS_REGION", environ.get("AWS_DEFAULT_REGION"))
  if endpoint:
    spec["endpoint"] = endpoint
    # Such a server cannot be asked for the region of a bucket.
    region = region or "us-east-1"
  if region:
    spec["aws_region"] = region
  if "AWS_ACCESS_KEY_ID" in environ:
    # Else TensorStore prints an error for each missing credentials file.
    spec["aws_credentials"] = {"type": "environment"}
  return spec
