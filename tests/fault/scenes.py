"""Every scene, in the order in which they are played: the first that leads to a point is chosen for it."""

from __future__ import annotations

from typing import Final

from tests.fault.scenes_of_others import OF_OTHERS
from tests.fault.scenes_of_worker import OF_WORKER

SCENES: Final = (*OF_WORKER, *OF_OTHERS)
