"""Against mode collapse: the critic, or the objective, looks at more than one sample."""
