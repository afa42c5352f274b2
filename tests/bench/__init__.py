"""Measures what custody, record and guard cost a call, as ratios to the bare request within one run: ``make bench``."""
