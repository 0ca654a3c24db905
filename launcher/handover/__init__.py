"""A run's request as files that people keep and submit without the launcher: a script, or for Compose.

The site's engines write their own (``files()`` of their submissions); see launcher.app.handover.
"""

from launcher.handover import compose, guide, script
from launcher.handover.marks import Variable

__all__ = ["Variable", "compose", "guide", "script"]
