"""Fast implementations of the operations in ``r3dad.ops``, imported as ``r3dad.kernels`` and only by name, on first use.

One file per family and language; the suffix is the language. The table that names them is ``r3dad/backends.py``.
"""
