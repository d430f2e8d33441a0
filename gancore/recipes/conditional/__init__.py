"""Generators and critics that are told a label."""
