"""The least that a program with an event loop does. Its wall time from start to exit is measured.

Written without argparse: what it would import is not the loop's.
"""

import sys


def main(name: str) -> None:
    if name == "bare":
        return
    import asyncio

    if name == "import-asyncio":
        return
    if name == "asyncio":
        loop = asyncio.SelectorEventLoop()
    elif name == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        import kloop

        loop = kloop.new_event_loop()
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


main(sys.argv[1])
