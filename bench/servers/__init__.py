"""Programs under test, each run as a process of its own by the harness.

What lives here runs inside the measured process, so it is the same for every loop: no option
is tuned for one of them. What may not live here: anything of the harness.
"""
