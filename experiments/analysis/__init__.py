"""Capture bytes to packets, streams and findings. Pure judging: never touches a host."""
