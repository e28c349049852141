"""What tornado's own runner, tornado/test/runtests.py, sets before its tests: they fail for unexpected logs."""

import logging


def install(spec):
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
