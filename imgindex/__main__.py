"""`python -m imgindex` is the command `imgindex`."""

from imgindex.cli.app import main

if __name__ == "__main__":
    main()
