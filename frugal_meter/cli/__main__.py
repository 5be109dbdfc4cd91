"""``python -m frugal_meter.cli``."""

from . import main

if __name__ == "__main__":
    main()
