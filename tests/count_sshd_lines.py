"""What runs under callgrind: reads messages, given in hex one a line, between two calls that nothing else here makes.

callgrind's ``--zero-before=getpgrp --dump-before=getppid`` then counts the instructions of one read after the other.
"""

from __future__ import annotations

import os
import sys

from tests.sshd_lines import logins

if __name__ == "__main__":
    reader = logins()
    for number, text in enumerate(sys.stdin, 1):
        message = bytes.fromhex(text)
        # Each of another time and process: what is read is then the same to the reader, and no repetition.
        for time, counted in ((2 * number, False), (2 * number + 1, True)):
            line = b"%d %d 1 %s\n" % (time, time, message)
            if counted:
                os.getpgrp()
            reader.feed(line, "journal", 0)
            if counted:
                os.getppid()
