#!/usr/bin/python3 -IS
"""
Stands where bulkhead-frontend should: hands its channel over to the test,
which listens on a socket beside this file, and waits for its own end.
"""

import os
import socket
import sys

CHANNEL = 3

link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
link.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "test.socket"))
socket.send_fds(link, [b"%10d" % os.getpid()], [CHANNEL])
os.close(CHANNEL)
word = link.recv(1)
sys.exit(word[0] if word else 0)
