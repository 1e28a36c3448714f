"""Headless Chromium, driven over a pipe by its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time

PATH = shutil.which("chromium")


class Browser:
  """A page in a browser of its own; a context manager."""

  def __init__(self, folder):
    # The browser reads commands from file 3 and writes answers to file 4.
    read_3, self._write = os.pipe()
    self._read, write_4 = os.pipe()
    command = [
      PATH,
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--remote-debugging-pipe",
      f"--user-data-dir={folder}",
      "about:blank",
    ]
    shell = f'exec "$@" 3<&{read_3} 4>&{write_4}'
    self._process = subprocess.Popen(
      ["bash", "-c", shell, "chromium", *command],
      pass_fds=(read_3, write_4),
      stderr=subprocess.DEVNULL,
    )
    os.close(read_3)
    os.close(write_4)
    self._rest, self._number, self._session = b"", 0, None
    self.errors = []
    targets = self.send("Target.getTargets")["targetInfos"]
    (page,) = [x["targetId"] for x in targets if x["type"] == "page"]
    self._session = self.send(
      "Target.attachToTarget", targetId=page, flatten=True
    )["sessionId"]
    for name in ("Page", "Runtime", "Log"):
      self.send(f"{name}.enable")

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.terminate()
    self._process.wait(10)
    os.close(self._read)
    os.close(self._write)

  def _message(self):
    while b"\0" not in self._rest:
      part = os.read(self._read, 1 << 20)
      assert part, "the browser has ended"
      self._rest += part
    message, self._rest = self._rest.split(b"\0", 1)
    return json.loads(message)

  def send(self, command, **params):
    """The result of a command; errors of the page are noted on the way."""
    self._number += 1
    sent = {"id": self._number, "method": command, "params": params}
    if self._session:
      sent["sessionId"] = self._session
    os.write(self._write, json.dumps(sent).encode() + b"\0")
    while True:
      message = self._message()
      if message.get("id") == self._number:
        assert "error" not in message, message
        return message["result"]
      method, found = message.get("method"), message.get("params", {})
      if method == "Runtime.exceptionThrown" or (
        method == "Log.entryAdded" and found["entry"]["level"] == "error"
      ):
        self.errors.append(json.dumps(found))

  def open(self, url, width=1100, height=1400, dark=False):
    self.send(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=False,
    )
    scheme = "dark" if dark else "light"
    self.send(
      "Emulation.setEmulatedMedia",
      features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    self.send("Page.navigate", url=url)

  def run(self, script):
    """The value of an expression."""
    found = self.send(
      "Runtime.evaluate",
      expression=script,
      awaitPromise=True,
      returnByValue=True,
    )
    assert "exceptionDetails" not in found, found
    return found["result"].get("value")

  def wait(self, script, seconds=20):
    """The value of an expression, once it is true."""
    end = time.monotonic() + seconds
    while not (value := self.run(script)):
      assert time.monotonic() < end, script
      time.sleep(0.05)
    return value

  def screenshot(self, path):
    shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
    with open(path, "wb") as file:
      file.write(base64.b64decode(shot["data"]))
