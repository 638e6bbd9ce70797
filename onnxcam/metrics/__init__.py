"""Numbers that say whether a map means anything: functions over a Scorer and a map, from this tool or any other."""
