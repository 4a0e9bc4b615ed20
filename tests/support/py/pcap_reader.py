"""A receiver of pcap streams: accepts or dials, and writes every connection to a file of its own as it comes.

In: "accept" or "dial", an address, a port, a folder, and the bytes to read in a second (0: as fast as they come).
Out: `PORT.pcap` in the folder, where PORT is the end of the connection that is not the given one; lines on stdout: `ready`,
`open PORT`, `end PORT`. It dials again after an end. Its host holds at most 128 KiB that it has not read.
"""

import os
import pathlib
import socket
import sys
import threading
import time

STEP = 16384


def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def read(connection, port, folder, rate):
    # A port that is used twice would make two connections one.
    out = os.open(folder / f"{port}.pcap", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    tell("open", port)
    while True:
        try:
            data = connection.recv(STEP)
        except OSError:
            break
        if not data:
            break
        os.write(out, data)
        if rate:
            time.sleep(len(data) / rate)
    os.close(out)
    connection.close()
    tell("end", port)


def fresh():
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Linux doubles it.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return one


def main():
    how, address, port, folder, rate = sys.argv[1:]
    folder, rate, there = pathlib.Path(folder), int(rate), (address, int(port))
    if how == "accept":
        listener = fresh()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(there)
        listener.listen()
        tell("ready")
        while True:
            connection, peer = listener.accept()
            threading.Thread(target=read, args=(connection, peer[1], folder, rate), daemon=True).start()
    tell("ready")
    while True:
        connection = fresh()
        try:
            connection.connect(there)
        except OSError:
            time.sleep(0.1)
            continue
        read(connection, connection.getsockname()[1], folder, rate)


main()
