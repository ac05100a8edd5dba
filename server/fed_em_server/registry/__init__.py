"""The registry of models: versions that are known by what is in them, where each comes from, and which is in use."""

from fed_em_server.registry.lineage import Lineage
from fed_em_server.registry.store import Registry
from fed_em_server.registry.version import Version

__all__ = ["Lineage", "Registry", "Version"]
