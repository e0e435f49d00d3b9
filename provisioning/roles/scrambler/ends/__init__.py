"""What runs on the end devices. This folder is copied to them as it is.

It imports the standard library and `cryptography` alone, and runs under the Python and the
`cryptography` of Debian 12 as well as under the project's own.
"""
