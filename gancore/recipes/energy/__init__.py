"""Auto-encoders as discriminators."""
