"""Indexes: which ones a workload lacks, proved by the planner, and how they are built and taken back."""
