"""Known-answer vectors of the secure sum, failures included, as JSON for other implementations.

    python -m tests.protocols.make_vectors          prints what has changed, and fails if anything has
    python -m tests.protocols.make_vectors --write  writes the files

All bytes are hexadecimal, all integers plain. A case with "error" must be refused; the text is this implementation's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.protocols.vector_cases import Case
from tests.protocols.vectors_of_certificates import certificates, roots
from tests.protocols.vectors_of_graphs import graph_parameters, graphs
from tests.protocols.vectors_of_messages import envelopes, headers
from tests.protocols.vectors_of_primitives import (
    chain_keys,
    derivations,
    digests,
    encodings,
    mask_vectors,
    rings,
    sealed_boxes,
    sharings,
    trees,
)
from tests.protocols.vectors_of_rosters import policies, roster_versions
from tests.protocols.vectors_of_rounds import rounds

FOLDER = Path(__file__).parent / "vectors"

FILES: dict[str, Callable[[], list[Case]]] = {
    "digest": digests,
    "derive": derivations,
    "mask": mask_vectors,
    "shamir": sharings,
    "merkle": trees,
    "box": sealed_boxes,
    "round_keys": chain_keys,
    "ring": rings,
    "encoding": encodings,
    "envelope": envelopes,
    "header": headers,
    "graph": graphs,
    "graph_parameters": graph_parameters,
    "root": roots,
    "certificate": certificates,
    "round": rounds,
    "policy": policies,
    "roster": roster_versions,
}


def text_of(name: str) -> str:
    """The content of one file."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or say which would change."""
    stale = []
    for name in FILES:
        path, text = FOLDER / f"{name}.json", text_of(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--write" in arguments:
                path.write_text(text, encoding="utf-8")
    print(f"{'wrote' if '--write' in arguments else 'changed'}: {', '.join(stale) or 'nothing'}")
    return int(bool(stale) and "--write" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
