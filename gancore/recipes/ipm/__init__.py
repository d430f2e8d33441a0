"""Integral probability metrics: critics whose size or slope is bounded."""
