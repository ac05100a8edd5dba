"""What a live page shows, asked for as a browser does."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, build_opener


def state_of(address: str) -> dict[str, Any]:
    """The picture of the session whose page has this address, with its token."""
    browser = build_opener(HTTPCookieProcessor())
    browser.open(address, timeout=60).close()
    with browser.open(f"http://{urlsplit(address).netloc}/state", timeout=60) as answer:
        state: dict[str, Any] = json.load(answer)
    return state
