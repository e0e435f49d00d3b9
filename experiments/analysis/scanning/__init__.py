"""Scanning what streams carry, in compiled code: the tags of pages.

Knows neither captures nor decoders; what is found is handed over as rows of numbers.
"""
