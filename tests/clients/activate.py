"""Starts a program with listening sockets, as systemd does: activate.py ADDRESS:PORT[/udp],... PROGRAM ARGUMENT...

The program inherits the sockets from descriptor 3 on (LISTEN_FDS, LISTEN_PID). On SIGTERM it is told to stop, and this ends with its exit
code. On SIGUSR1 it is told to stop too, and another one is started when a client waits at one of the sockets.
"""

import ctypes
import os
import select
import signal
import socket
import sys

FIRST = 3
PR_SET_PDEATHSIG = 1


def bind(text):
    """One socket, as the command line names it."""
    place, _, kind = text.partition("/")
    host, port = place.rsplit(":", 1)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, int(port)))
    if kind != "udp":
        made.listen(64)
    return made


def start(sockets, command):
    """Starts the program; gives its process id."""
    child = os.fork()
    if child:
        return child
    # It ends with us, however we end, and waits for no signal of ours.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # Out of the way first: the targets may be in use.
    high = [os.dup2(one.fileno(), 100 + index) for index, one in enumerate(sockets)]
    for index, descriptor in enumerate(high):
        os.dup2(descriptor, FIRST + index, inheritable=True)
        os.close(descriptor)
    os.closerange(FIRST + len(sockets), 100)
    environment = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)))
    os.execve(command[0], command, environment)


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD])
    sockets = [bind(text) for text in sys.argv[1].split(",")]
    signals = {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD}
    child = start(sockets, sys.argv[2:])
    again = False
    while True:
        came = signal.sigwait(signals)
        if came == signal.SIGCHLD:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if not again:
                sys.exit(code)
            again = False
            select.select([one for one in sockets if one.type == socket.SOCK_STREAM], [], [])
            child = start(sockets, sys.argv[2:])
        else:
            again = came == signal.SIGUSR1
            os.kill(child, signal.SIGTERM)


main()
