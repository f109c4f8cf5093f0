"""Report: the facts of a run as `report.json` and as one self-contained page."""
