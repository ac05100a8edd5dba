"""Checks that the generated code of the wire format is what its definition gives; `--write` writes it anew."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTOCOLS = Path(__file__).resolve().parent.parent / "protocols"
DEFINITION = "fed_em_protocols/wire/messages.proto"
GENERATED = ("fed_em_protocols/wire/messages_pb2.py", "fed_em_protocols/wire/messages_pb2.pyi")


def generate(folder: Path) -> None:
    """Compile the definition into `folder`."""
    status = protoc.main(["protoc", f"-I{PROTOCOLS}", f"--python_out={folder}", f"--pyi_out={folder}", DEFINITION])
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")


def main() -> None:
    """Compare, or write."""
    if "--write" in sys.argv:
        generate(PROTOCOLS)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = [name for name in GENERATED if (PROTOCOLS / name).read_bytes() != (Path(folder) / name).read_bytes()]
    if stale:
        raise SystemExit(f"{', '.join(stale)} is not what {DEFINITION} gives: run `make wire`")
    print("generated code is up to date")


if __name__ == "__main__":
    main()
