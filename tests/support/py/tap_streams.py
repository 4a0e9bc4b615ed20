"""Puts the TCP connections of a capture together as a passive receiver does, on scapy's layers alone.

In: a capture file, a folder, and how many bytes of each direction are read before the receiver stops (0: all of them).
Out: the folder gets `N-client` and `N-server` with what was read of connection N; a JSON line on stdout for each:
{"client", "server", "bytes": [client, server], "stopped": [..], "end": "fin" or "rst" or null, "community": wire Community ID}.
Refuses what a strict receiver would: a wrong checksum, a connection without SYN, a hole, bytes that were sent twice, bytes
that are never acknowledged, an acknowledgement of what was not sent.
"""

import json
import pathlib
import sys

import communityid
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader, checksum
from scapy.layers.inet6 import in6_chksum
from scapy.layers.inet import in4_chksum

FIN, SYN, RST, ACK = 1, 2, 4, 16
WINDOW = 1 << 32


class Connection:
    def __init__(self, key):
        self.key = key
        self.next = [None, None]
        self.acknowledged = [None, None]
        self.data = [bytearray(), bytearray()]
        self.seen = [0, 0]
        self.finished = [False, False]
        self.end = None


def check(ip, tcp, number):
    """Both sums, over the bytes as they came."""
    raw = bytes(ip.original)
    segment = bytes(tcp.original)
    if ip.version == 4:
        if checksum(raw[: ip.ihl * 4]) != 0:
            sys.exit(f"packet {number}: wrong IP checksum")
        if ip.len != len(raw):
            sys.exit(f"packet {number}: {len(raw)} bytes, and {ip.len} announced")
        total = in4_chksum(6, ip, segment)
    else:
        if ip.plen != len(raw) - 40:
            sys.exit(f"packet {number}: {len(raw) - 40} bytes, and {ip.plen} announced")
        total = in6_chksum(6, ip, segment)
    # Over a segment with its sum in place, a right one gives zero.
    if total not in (0, 0xFFFF):
        sys.exit(f"packet {number}: wrong TCP checksum")


def read(path, depth):
    connections = []
    open_now = {}
    for number, (raw, _) in enumerate(RawPcapReader(path), 1):
        packet = Ether(raw)
        ip = packet[IP] if IP in packet else packet[IPv6]
        if TCP not in packet:
            continue
        tcp = packet[TCP]
        check(ip, tcp, number)
        source, target = (ip.src, tcp.sport), (ip.dst, tcp.dport)
        flags = int(tcp.flags)
        if flags & (SYN | ACK) == SYN:
            if (source, target) in open_now and open_now[source, target].end is None:
                sys.exit(f"packet {number}: {source} to {target} is in use")
            open_now[source, target] = Connection((source, target))
            connections.append(open_now[source, target])
        me = 0 if (source, target) in open_now else 1
        one = open_now.get((source, target) if me == 0 else (target, source))
        if one is None:
            sys.exit(f"packet {number}: {source} to {target} has no SYN")
        take(one, me, tcp, flags, number, depth)
    for one in connections:
        for me in (0, 1):
            if one.acknowledged[me] != one.next[me]:
                sys.exit(f"{one.key}: side {me} was not acknowledged to its end")
    return connections


def take(one, me, tcp, flags, number, depth):
    payload = bytes(tcp.payload.original) if tcp.payload else b""
    if one.next[me] is None:
        one.next[me] = one.acknowledged[me] = tcp.seq
    if tcp.seq != one.next[me]:
        sys.exit(f"packet {number}: {tcp.seq} where {one.next[me]} is next: a hole, or bytes twice")
    if flags & ACK:
        if tcp.ack != one.next[1 - me]:
            sys.exit(f"packet {number}: acknowledges {tcp.ack}, {one.next[1 - me]} is what was sent")
        one.acknowledged[1 - me] = tcp.ack
    if payload and one.finished[me]:
        sys.exit(f"packet {number}: payload behind FIN")
    room = len(payload) if not depth else max(0, min(len(payload), depth - one.seen[me]))
    one.data[me] += payload[:room]
    one.seen[me] += len(payload)
    length = len(payload) + (1 if flags & (SYN | FIN) else 0)
    one.next[me] = (one.next[me] + length) % WINDOW
    if flags & RST:
        one.end = "rst"
        one.acknowledged[me] = one.next[me]
    if flags & FIN:
        one.finished[me] = True
        if all(one.finished):
            one.end = "fin"


def main():
    path, folder, depth = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(read(path, depth)):
        for side, data in zip(("client", "server"), one.data):
            (folder / f"{number}-{side}").write_bytes(data)
        (source, sport), (target, dport) = one.key
        community = communityid.CommunityID().calc(communityid.FlowTuple.make_tcp(source, target, sport, dport))
        print(json.dumps({
            "client": f"{source} {sport}", "server": f"{target} {dport}", "bytes": one.seen,
            "stopped": [seen > len(data) for seen, data in zip(one.seen, one.data)], "end": one.end, "community": community,
        }))


main()
