"""Statements told apart by digest, and what each costs."""
