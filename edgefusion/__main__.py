"""``python -m edgefusion`` is the command line."""

from edgefusion.cli.main import main

if __name__ == "__main__":
    main()
