"""f-divergences and their relatives: probabilities of real and fake."""
