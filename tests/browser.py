"""A real headless Chromium for tests, and axe-core to question a page's accessibility; each says how to get it when absent."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CACHE = Path(__file__).resolve().parent.parent / ".cache"
AXE = "axe-core@4.14.1"
#: of the package as published; a changed one is refused
AXE_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"

#: root has no user namespace to make a sandbox from; the rest keeps the browser off the network and off the disk
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--hide-scrollbars", "--window-size=1280,900",
)  # fmt: skip


def _installed(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"needs {names[0]}; on Debian: apt-get install -y chromium chromium-driver")


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a fresh profile under ``profile``; nothing of it runs on afterwards. Skips where none is installed."""
    options = webdriver.ChromeOptions()
    options.binary_location = _installed("chromium", "chromium-browser", "google-chrome")
    service = Service(executable_path=_installed("chromedriver"))
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    family = _descendants(service.process.pid)
    try:
        yield driver
    finally:
        family |= _descendants(service.process.pid)
        driver.quit()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> set[int]:
    """The processes started by ``pid``, from the kernel's own lists."""
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, children.read_text().split()):
                found |= {child} | _descendants(child)
    return found


def viewport(driver: webdriver.Chrome, width: int, height: int = 900, scale: float = 1) -> None:
    """Give the page a window of ``width`` × ``height`` CSS pixels; ``scale`` 2 is what 200 % zoom does to them."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    )


def prefer(driver: webdriver.Chrome, **features: str) -> None:
    """Set what the reader prefers: ``prefer(driver, prefers_color_scheme="dark")``."""
    wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})


def screenshot(driver: webdriver.Chrome, path: Path) -> bytes:
    """The whole page, not only what is in view, written to ``path`` as PNG."""
    height = driver.execute_script("return document.documentElement.scrollHeight")
    width = driver.execute_script("return innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    path.write_bytes(base64.b64decode(shot["data"]))
    return path.read_bytes()


def console_errors(driver: webdriver.Chrome) -> list[str]:
    """What the console called severe since the last question."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def requested_urls(driver: webdriver.Chrome) -> list[str]:
    """Every address the page asked for since the last question."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def axe_violations(driver: webdriver.Chrome) -> list[dict[str, Any]]:
    """What axe-core holds against the page now: rule, impact, and where."""
    driver.execute_script(_axe_script())
    driver.set_script_timeout(60)
    run = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations))"
    return [
        {"rule": v["id"], "impact": v["impact"], "help": v["help"], "where": [n["html"][:160] for n in v["nodes"]][:4]}
        for v in driver.execute_async_script(run)
    ]


def _axe_script() -> str:
    """axe-core's own file, fetched once with npm into the project's cache."""
    kept = CACHE / f"{AXE.replace('@', '-')}.min.js"
    if not kept.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            script = _fetch_axe(Path(folder))
            # several workers may fetch at once: each moves a whole file into place
            os.replace(script, kept)
    return kept.read_text(encoding="utf-8")


def _fetch_axe(folder: Path) -> Path:
    npm = shutil.which("npm") or pytest.skip("needs npm to fetch axe-core; on Debian: apt-get install -y npm")
    packed = subprocess.run([npm, "pack", AXE, "--pack-destination", folder], capture_output=True, text=True, check=False)
    if packed.returncode:
        pytest.skip(f"npm pack {AXE} failed: {packed.stderr.strip()[-200:]}")
    archive = next(folder.glob("*.tgz"))
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == AXE_SHA256, f"{AXE} is not the package this test was written with"
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/axe.min.js")
        assert member is not None
        script = folder / "axe.min.js"
        script.write_bytes(member.read())
    return script
