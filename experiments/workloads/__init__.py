"""What is done on the hosts of a lab. A workload acts and returns data."""
