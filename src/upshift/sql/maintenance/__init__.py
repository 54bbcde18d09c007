"""Maintenance: what tables and indexes need, told from statistics, and done without standing in the way.

Flows in: the catalog and the statistics of a database (`tables`, `bloat`), or of an SQLite file (`sqlite`).
Flows out: what is advised and why (`advice`), and its outcome where it was done (`work`).
"""
