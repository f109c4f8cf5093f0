"""What an encoder sees: PCA maps, attention, and the pictures to look at."""
