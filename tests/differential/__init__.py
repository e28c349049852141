"""The same scripts of operations on stock asyncio and on kloop: what the programs see must be the same.

A script is a list of bursts. The operations of a burst are made in one turn of the loop; then the world is left to
settle, until nothing comes any more. Scripts are plain tuples, so that a failing one can be copied into a test as it
is printed.

``world``     runs a script on one loop and answers its trace
``compare``   which traces count as the same
``streams``, ``datagrams``, ``sockets``, ``servers``, ``schedule``
              the operations of one kind, and how scripts of them are generated
"""
