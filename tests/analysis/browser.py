"""A headless Chromium for tests of pages: Debian's package, or any that is on the PATH. Nothing else is needed.

``open_page(path, probe)`` loads a copy of the page with a listener for errors before all else and `probe`, a script, behind all
else; the probe's result comes back through the document. ``screenshot`` takes a picture.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

LISTENER = """<script>window.troubles = [];
window.addEventListener("error", e => troubles.push("error: " + e.message));
window.addEventListener("unhandledrejection", e => troubles.push("rejection: " + e.reason));
for (const level of ["error", "warn"]) {
  const own = console[level];
  console[level] = (...words) => { troubles.push(level + ": " + words.join(" ")); own(...words); };
}
</script>"""

PROBE = """<script>(async () => { let found; try { found = await (%s)(); } catch (e) { found = {failed: String(e.stack || e)}; }
const out = document.createElement("script"); out.type = "application/json"; out.id = "probe";
out.textContent = JSON.stringify({found, troubles}); document.body.append(out); })();</script>"""


def chromium() -> str:
    """The browser's path; skips the test where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)")


def open_page(path: Path, probe: str, *options: str, size: tuple[int, int] = (1200, 900)) -> dict[str, Any]:
    """``found``: what `probe`, the text of an async JavaScript function, gives in the page at `path`; ``troubles``: the console's
    errors and warnings."""
    text = path.read_text()
    copy = path.with_name(f"probed-{path.name}")
    head, body = text.split("<head>", 1)
    body, _, end = body.rpartition("</body>")  # the last one: libraries have it in strings
    copy.write_text(f"{head}<head>{LISTENER}{body}{PROBE % probe}</body>{end}")
    done = _run(copy, "--virtual-time-budget=30000", "--dump-dom", *options, size=size)
    found = re.search(r'<script type="application/json" id="probe">(.*?)</script>', done.stdout, re.S)
    assert found, f"the page did not come to its end: {done.stderr[-2000:]}"
    answer: dict[str, Any] = json.loads(found.group(1))
    answer["troubles"] += re.findall(r"ERROR:CONSOLE.*", done.stderr)
    return answer


def screenshot(path: Path, to: Path, *options: str, size: tuple[int, int] = (1200, 900)) -> None:
    """A picture of the page at `path`."""
    _run(path, "--virtual-time-budget=30000", "--hide-scrollbars", f"--screenshot={to}", *options, size=size)


def _run(path: Path, *options: str, size: tuple[int, int]) -> subprocess.CompletedProcess:
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    command = [
        *(
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
        ),
        *(
            offline,
            f"--window-size={size[0]},{size[1]}",
            f"--user-data-dir={path.parent / 'browser'}",
            *options,
            path.as_uri(),
        ),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
