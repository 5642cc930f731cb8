"""The simulator: the daemon's own code on a machine that is made up, from one seed.

``kernel`` has files, pipes, descriptors and the clock; ``machine`` puts them in place of the system's modules;
``scenario`` makes of a seed what happens; ``world`` lets it happen; ``oracle`` says what must come of it;
``python -m tests.sim`` runs seeds, replays one, and makes a failing one small.
"""
