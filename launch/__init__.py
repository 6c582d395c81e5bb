"""From planned runs to machines."""
