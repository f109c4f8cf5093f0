"""What the protocols that predict masks share."""
