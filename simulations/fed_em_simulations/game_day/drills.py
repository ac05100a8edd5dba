"""All drills, by the names of their runbooks."""

from __future__ import annotations

from collections.abc import Mapping

from fed_em_simulations.game_day import fits, operations
from fed_em_simulations.game_day.drill import Drill

DRILLS: Mapping[str, Drill] = {drill.name: drill for drill in (*fits.DRILLS, *operations.DRILLS)}
