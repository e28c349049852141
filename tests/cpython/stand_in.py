"""Makes the event loops that CPython's tests create those of another implementation.

The tests get loops in three ways: from the default policy (asyncio.new_event_loop,
asyncio.run, IsolatedAsyncioTestCase), from asyncio.SelectorEventLoop(selector), and from
Python 3.13 on from asyncio.EventLoop. All three lead to the factory after install().
What stock code the tests reach through asyncio.unix_events and asyncio.selector_events
stays as it is.
"""

import asyncio
import asyncio.unix_events
import importlib

STOCK = "asyncio"


def factory_of(spec):
    """The loop factory named MODULE:FACTORY; a bare MODULE means MODULE:new_event_loop."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name or "new_event_loop")


def install(spec):
    """Directs asyncio's ways of making a loop to spec's factory; STOCK changes nothing."""
    if spec == STOCK:
        return
    factory = factory_of(spec)
    loop = factory()
    loop.close()
    stand_in = _stand_in_class(factory, type(loop), asyncio.SelectorEventLoop)
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = stand_in
    asyncio.SelectorEventLoop = stand_in
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = stand_in


def _stand_in_class(factory, loop_class, stock_class):
    """A class, since tests make it an attribute of theirs, which would bind a function.

    It inherits from the stock class for the sake of loops that do so too, and that call
    asyncio.SelectorEventLoop's methods by this name.
    """

    class Meta(type(stock_class)):
        def __instancecheck__(cls, instance):
            return isinstance(instance, loop_class)

    class SelectorEventLoop(stock_class, metaclass=Meta):
        def __new__(cls, selector=None):
            if selector is not None:
                selector.close()
            return factory()

    # Tests are named after it.
    SelectorEventLoop.__name__ = stock_class.__name__
    return SelectorEventLoop
