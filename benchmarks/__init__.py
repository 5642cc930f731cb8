"""Seeded workloads and the benches that run on them."""
