"""Checkpoints on `s3://`, which Orbax does not know.

It opens arrays by TensorStore, which does, as it knows `gs://`: just the three
functions of Orbax that tell TensorStore where to look know no other store.
"""

import os
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from bert_jax.settings import UserError

_PREFIX = "s3://"
_taught = False


def teach_orbax() -> None:
  """Makes Orbax take paths that begin with `s3://`.

  The endpoint and the region are those of AWS_ENDPOINT_URL and AWS_REGION, or
  else Amazon's; credentials are found as Amazon's own tools find them.

  Raises:
    UserError: this version of Orbax is another inside.
  """
  global _taught
  if _taught:
    return
  try:
    normalized = tensorstore_utils._normalize_path
    is_known = tensorstore_utils._use_gcs_driver
    spec_of = gcs_utils.get_kvstore_for_gcs
  except AttributeError as error:
    raise UserError(
      f"checkpoints cannot be on s3:// with orbax-checkpoint {ocp.__version__};"
      " use a version that this one was tested with, 0.12.8"
    ) from error

  def is_ours(path: str) -> bool:
    return path.startswith(_PREFIX)

  tensorstore_utils._normalize_path = lambda path: (
    path.rstrip("/") if is_ours(path) else normalized(path)
  )
  tensorstore_utils._use_gcs_driver = lambda path: (
    is_ours(path) or is_known(path)
  )
  gcs_utils.get_kvstore_for_gcs = lambda path: (
    _spec(path) if is_ours(path) else spec_of(path)
  )
  _taught = True


def _spec(path: str) -> dict[str, Any]:
  """What TensorStore takes."""
  bucket, _, key = path.removeprefix(_PREFIX).partition("/")
  spec = {"driver": "s3", "bucket": bucket, "path": key}
  environ = os.environ
  endpoint = environ.get("AWS_ENDPOINT_URL_S3", environ.get("AWS_ENDPOINT_URL"))
  region = environ.get("AWS_REGION", environ.get("AWS_DEFAULT_REGION"))
  if endpoint:
    spec["endpoint"] = endpoint
    # It cannot be asked which region a bucket is in.
    region = region or "us-east-1"
  if region:
    spec["aws_region"] = region
  if "AWS_ACCESS_KEY_ID" in environ:
    # Or it complains on stderr of each of Amazon's files that is not there.
    spec["aws_credentials"] = {"type": "environment"}
  return spec
