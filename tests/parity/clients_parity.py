"""Clients that others wrote, against a server of ours.

`openai` and Hugging Face's `InferenceClient`, unchanged, get the vectors that
sentence-transformers computes.
"""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import huggingface_hub
import numpy as np
import openai
import sentence_transformers

from tests.parity.minilm_parity import model_folder

_TEXTS = ["The cat sits on the mat.", "A feline is seated.", "Stocks fell."]
_SECONDS = 120


@contextlib.contextmanager
def _server() -> Iterator[str]:
  with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
  url = f"http://127.0.0.1:{port}"
  command = [sys.executable, "-m", "launch.serve", f"--port={port}"]
  with subprocess.Popen(
    [*command, f"--model=minilm={model_folder()}", "--drain_delay=0"],
    stderr=subprocess.DEVNULL,
  ) as process:
    try:
      end = time.monotonic() + _SECONDS
      while True:
        try:
          urllib.request.urlopen(f"{url}/ready").close()
          break
        except (OSError, urllib.error.HTTPError):
          assert process.poll() is None, "the server has ended"
          assert time.monotonic() < end, "the server is not ready"
          time.sleep(0.2)
      yield url
    finally:
      process.terminate()


def checks() -> Iterator[tuple[str, float, float]]:
  peer = sentence_transformers.SentenceTransformer(
    str(model_folder()), device="cpu"
  )
  expected = peer.encode(_TEXTS, normalize_embeddings=True)

  def worst(found: object, reference: np.ndarray = expected) -> float:
    return float(np.abs(np.array(found) - reference).max())

  with _server() as url:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    # By default, the client asks for base64.
    for options in ({}, {"encoding_format": "float"}):
      answer = client.embeddings.create(model="minilm", input=_TEXTS, **options)
      found = [item.embedding for item in answer.data]
      form = options.get("encoding_format", "base64")
      yield f"openai, {form}: vectors", worst(found), 1e-5
    tokens = sum(len(peer.tokenizer(text)["input_ids"]) for text in _TEXTS)
    difference = abs(answer.usage.prompt_tokens - tokens)
    yield "openai: tokens of the usage", float(difference), 0
    names = [model.id for model in client.models.list()]
    yield "openai: models", float(names != ["minilm"]), 0
    hub = huggingface_hub.InferenceClient(model=url)
    found = [hub.feature_extraction(text)[0] for text in _TEXTS]
    yield "InferenceClient: vectors", worst(found), 1e-5
    found = hub.sentence_similarity(_TEXTS[0], other_sentences=_TEXTS[1:])
    cosines = expected[1:] @ expected[0]
    yield "InferenceClient: similarities", worst(found, cosines), 1e-5
