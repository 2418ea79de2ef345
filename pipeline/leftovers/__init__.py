"""What is left over and of no more use: images nobody asks for, old files of the state, what we left at the service.

Each kind is found first, which changes nothing, and cleared by a call of its own. What leaves the tree goes to
`retired/`, an old file goes only when no wanted image may have to come from it, and at the service goes only what we
made and no batch can need.
"""

from __future__ import annotations

from pipeline.leftovers.gone import gone, retire
from pipeline.leftovers.leftover import Leftover
from pipeline.leftovers.old import forget, old
from pipeline.leftovers.remote import Holdings, Service, clear, holdings, left

__all__ = ["Holdings", "Leftover", "Service", "clear", "forget", "gone", "holdings", "left", "old", "retire"]
