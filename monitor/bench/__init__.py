"""The benchmarks behind `session-monitor bench`: measured on a real broker, durability on."""
