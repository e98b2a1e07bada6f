"""Evaluation: metrics, simulated clicks, baselines, tables and figures."""
