"""`python -m harness`: the runner."""

from harness.runner.main import main

if __name__ == "__main__":
    main()
