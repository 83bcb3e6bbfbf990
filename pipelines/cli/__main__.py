"""`python -m pipelines.cli`: the same as `pigeonhole`."""

from pipelines.cli.app import main

if __name__ == "__main__":
    main()
