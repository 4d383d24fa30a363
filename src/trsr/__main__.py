"""``python -m trsr``, which launchers of several processes need."""

from trsr.cli import main

if __name__ == "__main__":
    main()
