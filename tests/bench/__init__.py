"""Measures what custody and the guard cost, as ratios within one run: ``make bench``."""
