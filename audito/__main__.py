"""``python -m audito``, and what the ``audito`` script runs."""

import sys

from audito import signals


def main() -> int:
    """Do what the command line says; returns the exit code."""
    is_daemon = signals.is_daemon(sys.argv[1:])
    if is_daemon:
        signals.hold()

    from audito import cli

    exit_code = cli.main()
    if is_daemon:
        signals.ignore()
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
