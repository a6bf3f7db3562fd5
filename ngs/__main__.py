"""``python -m ngs`` is the command ``ngs``; so torchrun can start it."""

from ngs.cli import main

if __name__ == "__main__":
    main()
