"""``python -m r3dad``."""

from r3dad.cli import main

main()
