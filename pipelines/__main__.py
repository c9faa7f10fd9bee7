"""`python -m pipelines` is `tally`."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
