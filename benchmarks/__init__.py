"""What is fast and what is not, measured beside a peer or a floor in the same run."""
