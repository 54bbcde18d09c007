"""Reads to replicas, writes to the primary: which session may read what from where, and who is fit for it."""
