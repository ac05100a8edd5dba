"""How several workers share tests: by named group, and by file where there is none."""

from __future__ import annotations

from xdist.scheduler import LoadGroupScheduling


class WholeFiles(LoadGroupScheduling):
    """A worker takes a group, or a file, as a whole. xdist alone hands out tests of no group one by one."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return scope.partition("::")[0]
