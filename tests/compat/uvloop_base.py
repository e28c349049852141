"""Makes the base classes of uvloop's tests create the loops under test.

uvloop's tests come in pairs, on uvloop and on asyncio, with some for uvloop alone. Both
run on the loop under test, so that each expectation of either is held against it.
"""

import asyncio

import stand_in

# The loops that do what asyncio does, as far as uvloop's tests distinguish.
AS_ASYNCIO = (stand_in.STOCK, "kloop")


def install(spec):
    from uvloop import _testbase

    factory = asyncio.new_event_loop if spec == stand_in.STOCK else stand_in.factory_of(spec)

    def new_loop(self):
        return factory()

    def is_asyncio_loop(self):
        """Where uvloop does more than asyncio, its tests ask for that only on loops that are not asyncio's."""
        return spec in AS_ASYNCIO

    _testbase.BaseTestCase.is_asyncio_loop = is_asyncio_loop
    for base in (_testbase.UVTestCase, _testbase.AIOTestCase):
        base.new_loop = new_loop
    # asyncio's own, which the stand-in has directed to the same factory.
    _testbase.UVTestCase.new_policy = _testbase.AIOTestCase.new_policy
