"""Several generators and critics: stages that outdo one another, stacks, layers of an image."""
