"""The fixtures of this folder; and the example's package, which no environment installs."""

from __future__ import annotations

import sys

from flight_kit import EXAMPLES, flight_aws, start_flight

__all__ = ["flight_aws", "start_flight"]

sys.path.insert(0, str(EXAMPLES))
