"""What theory says: pure predictions and the claims that hold them against measurements."""
