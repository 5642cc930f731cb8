"""An ssh ProxyCommand that connects from a chosen address and port and hands the socket to ssh.

With `ProxyUseFdpass=yes` ssh takes the connected socket from our standard output, so that this
program is gone before the first byte flows. A source port that is chosen beforehand lets a test
name the connection of a login that fails, where no shell could have told it.
"""

import array
import socket
import sys


def main(source_address: str, source_port: str, address: str, port: str) -> None:
    """Connect from SOURCE_ADDRESS:SOURCE_PORT to ADDRESS:PORT and pass the socket on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind((source_address, int(source_port)))
        connection.connect((address, int(port)))
        rights = array.array("i", [connection.fileno()])
        with socket.socket(fileno=1) as ssh:
            ssh.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            ssh.detach()


if __name__ == "__main__":
    main(*sys.argv[1:])
