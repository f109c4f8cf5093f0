"""From what the user typed to an encoder, and from pictures to features."""
