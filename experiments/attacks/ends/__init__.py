"""Programs that run on lab hosts, with Python's standard library alone.

Each reads one line of JSON (its order), lets `guard` judge it, does what it is there for, and says
what happened as lines of JSON. Each ends with its standard input, and by itself after a while.
"""
