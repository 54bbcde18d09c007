"""Eager loads that are learned: what is read of a statement's objects is fetched with them the next time."""
