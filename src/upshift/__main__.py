"""`python -m upshift` is `upshift`."""

from upshift.cli import main

if __name__ == "__main__":
    main()
