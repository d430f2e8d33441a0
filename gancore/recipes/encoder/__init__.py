"""Encoders, variational and adversarial."""
