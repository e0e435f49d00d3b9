"""The compiled functions of the analysis: how they are marked, compiled, loaded and called.

A part is a package whose `exports` module names its functions (see `native.PARTS`).
"""
