"""Plans: how the database means to answer a statement, how it did, and how that changes over time.

Flows in: statements with sample parameters, slow executions (`capturing`).
Flows out: trees of nodes with what each costs by itself (`tree`), casts that keep an index from being used
(`casts`), estimates that were far off (`misestimates`), and the history of each statement's plans
(`history`). For index advice `explain` tells no more than a plan's cost, lines and indexes.
"""
