"""Tells the world what was recorded: metrics, logs, traces and health.

Flows in: a closed `Record` per request, and what the application itself counts.
Flows out: the Prometheus exposition, log lines, spans, and answers to probes.
"""
